//! Members are announced, join, lead and go, as an operator says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::time::Duration;

use raftlookupd_raft::{Error, MembershipChange, Registry};
use support::{
    DEADLINE, barrier, change, create, newcomer, parted, run, settled, start_all, start_three,
    topics, wait_until, write,
};

fn add(name: &str, address: &str) -> MembershipChange {
    let (name, address) = (name.into(), address.into());
    MembershipChange::Add { name, address }
}

fn remove(member: &str, force: bool) -> MembershipChange {
    let member = member.into();
    MembershipChange::Remove { member, force }
}

fn voters(at: &Registry) -> Vec<String> {
    let members = at.status().members.into_iter();
    let voters = members.filter(|member| member.voter);
    voters.map(|member| member.name).collect()
}

#[test]
fn a_member_joins_only_once_it_is_announced() {
    run(async {
        let members = start_three().await;
        let places: Vec<_> = members.iter().map(|(place, _)| place).collect();
        let (place, listener) = newcomer("d", &places);
        let address = place.address.clone();
        let joining = tokio::spawn(start_all(vec![(place, listener)]));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let a = &members[0].1;
        assert_eq!(a.status().members.len(), 3, "nobody has agreed to it");

        let wrong = change(a, add("d", "127.0.0.1:1")).await.unwrap();
        assert_eq!((wrong.id, wrong.name.as_str()), (4, "d"));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let announced = a.status().members.pop().unwrap();
        assert!(!announced.voter && !announced.joined, "{announced:?}");

        let taken = change(a, add("e", &members[1].0.address))
            .await
            .unwrap_err();
        assert!(matches!(&taken, Error::ChangeRefused(_)), "{taken}");
        let again = change(a, add("d", &address)).await.unwrap();
        assert_eq!(again.id, 4, "it keeps its id");
        let joined = tokio::time::timeout(DEADLINE, joining)
            .await
            .unwrap()
            .unwrap();
        wait_until("it votes", || voters(a) == ["a", "b", "c", "d"]).await;
        let progress = a.progress().await.unwrap();
        assert!(progress.last().unwrap().lag.is_some());
        write(&joined[0].1, create("orders")).await.unwrap();
        barrier(a).await;
        assert_eq!(topics(a), ["orders"]);
        let twice = change(a, add("d", "127.0.0.1:2")).await.unwrap_err();
        assert!(matches!(&twice, Error::ChangeRefused(_)), "{twice}");
    });
}

#[test]
fn any_member_is_removed_and_told_so_and_its_id_is_not_used_again() {
    run(async {
        let members = start_three().await;
        settled(&members).await;
        let (leader, followers) = parted(&members);
        let name = |member: &Registry| member.status().name;
        let (first, second) = (name(&followers[0]), name(&leader));
        let refused = change(&followers[1], remove(&first, false)).await;
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("Add a member first, or force"),
            "{refused}"
        );
        change(&followers[1], remove(&first, true)).await.unwrap();
        let failed = tokio::time::timeout(DEADLINE, followers[0].failed()).await;
        let failed = failed.unwrap();
        assert!(matches!(&failed, Error::Removed(_)), "{failed}");

        // The leader itself.
        let rest = &followers[1];
        change(rest, remove(&second, false)).await.unwrap();
        let failed = tokio::time::timeout(DEADLINE, leader.failed()).await;
        assert!(matches!(failed.unwrap(), Error::Removed(_)));
        assert_eq!(voters(rest), [name(rest)]);
        write(rest, create("orders")).await.unwrap();

        let gone = change(rest, remove(&second, false)).await.unwrap_err();
        assert!(matches!(&gone, Error::UnknownMember(_)), "{gone}");
        let last = change(rest, remove(&name(rest), true)).await.unwrap_err();
        assert!(matches!(&last, Error::ChangeRefused(_)), "{last}");

        let announced = change(rest, add("x", "127.0.0.1:1")).await.unwrap();
        assert_eq!(announced.id, 4);
        change(rest, remove("x", false)).await.unwrap();
        let announced = change(rest, add("y", "127.0.0.1:1")).await.unwrap();
        assert_eq!(announced.id, 5, "the id of x is not used again");
    });
}

#[test]
fn leadership_is_handed_to_whom_the_operator_names() {
    run(async {
        let members = start_three().await;
        settled(&members).await;
        let term = parted(&members).0.status().term;
        for _ in 0..6 {
            let (leader, followers) = parted(&members);
            let heir = &followers[1];
            let before = heir.status();
            let transfer = MembershipChange::TransferLeader {
                to: Some(before.name.clone()),
            };
            let done = change(&followers[0], transfer).await.unwrap();
            assert_eq!(done.id, before.id);
            let heir_leads = || {
                let leaders = members.iter().map(|(_, member)| member.status().leader);
                leaders.into_iter().all(|leads| leads == Some(before.id))
            };
            wait_until("all follow the heir", heir_leads).await;
            barrier(&leader).await;
        }
        let (leader, _) = parted(&members);
        let elections = leader.status().term - term;
        assert!(elections <= 6 + 2, "6 handovers took {elections} elections");
    });
}

#[test]
fn a_leader_that_stops_hands_over_first() {
    run(async {
        let mut members = start_three().await;
        settled(&members).await;
        let (leader, _) = parted(&members);
        let term = leader.status().term;
        let place = members
            .iter()
            .position(|(_, member)| member.member_id() == leader.member_id());
        let (_place, _) = members.remove(place.unwrap());
        leader.shutdown().await;
        for (_, member) in &members {
            let status = member.status();
            assert_eq!(status.term, term + 1);
            let led_by_another = status.leader.is_some_and(|id| id != leader.member_id());
            assert!(led_by_another, "{:?}", status.leader);
        }
    });
}
