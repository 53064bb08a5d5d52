//! Members that are away, that restart, and whose registry is replaced.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use raftlookupd_raft::Registry;
use raftlookupd_raft::storage::event::Event;
use raftlookupd_raft::storage::registration::{MemberId, PeerInfo, ProducerId};
use raftlookupd_raft::storage::registration_db::Lifetimes;
use raftlookupd_raft::storage::rows::MemberRow;
use support::{
    MEMBER_TIMEOUT, NOON, barrier, create, parted, run, settled, start_all, start_three,
    three_places, topics, wait_until, write,
};

fn nsqd() -> ProducerId {
    ProducerId {
        broadcast_address: "h1".into(),
        tcp_port: 4150,
    }
}

/// What a member proposes for an nsqd with one topic.
fn registered() -> Vec<Event> {
    let attach = Event::Attach {
        producer: nsqd(),
        remote_address: "10.0.0.1:50000".into(),
        info: PeerInfo::default(),
        at: NOON,
    };
    let claim = Event::Claim {
        producer: nsqd(),
        topic: "orders".into(),
        channel: None,
    };
    vec![attach, claim]
}

fn row(at: &Registry, member: MemberId) -> Option<MemberRow> {
    at.read(|db| db.member(member).cloned())
}

/// Whether a lookup shows the nsqd.
fn is_listed(at: &Registry) -> bool {
    let lifetimes = Lifetimes {
        now: at.now(),
        tombstone: 45_000,
        away: u64::try_from(MEMBER_TIMEOUT.as_millis()).unwrap(),
    };
    at.read(|db| {
        db.producers("orders", lifetimes)
            .is_some_and(|mut found| found.any(|producer| *producer.id == nsqd()))
    })
}

#[test]
fn a_member_that_is_down_is_recorded_as_away_until_its_first_batch() {
    run(async {
        let mut members = start_three().await;
        write(&members[0].1, create("before")).await.unwrap();
        settled(&members).await;
        let (leader, followers) = parted(&members);
        let away = followers[0].member_id();
        let position = members
            .iter()
            .position(|(_, member)| member.member_id() == away);
        let (place, stopped) = members.remove(position.unwrap());
        drop(followers);

        // Its next batch registers an nsqd.
        place.sessions.lock().unwrap().events = registered();
        write(&stopped, create("after")).await.unwrap();
        barrier(&leader).await;
        assert!(is_listed(&leader));
        let began = row(&leader, away).unwrap();
        assert_eq!(began.away, None);
        stopped.shutdown().await;
        drop(stopped);
        wait_until("the leader records it", || {
            row(&leader, away).unwrap().away.is_some()
        })
        .await;
        for (_, member) in &members {
            barrier(member).await;
            let since = row(member, away).unwrap().away.unwrap();
            assert!(since.last_heard <= since.since, "{since:?}");
            assert!(since.since - since.last_heard >= 3_000, "{since:?}");
            assert!(is_listed(member), "it hides nothing");
        }

        let back = place.start().await;
        wait_until("its first batch ends it", || {
            row(&leader, away).unwrap().away.is_none()
        })
        .await;
        let row = row(&leader, away).unwrap();
        assert_eq!(row.incarnation, began.incarnation + 1);
        barrier(&back).await;
        assert!(is_listed(&leader) && is_listed(&back));
    });
}

#[test]
fn a_snapshot_begins_an_incarnation() {
    run(async {
        let mut places = three_places();
        for (place, _) in &mut places {
            place.snapshot_count = 20;
        }
        let mut members = start_all(places).await;
        write(&members[0].1, create("before")).await.unwrap();
        settled(&members).await;
        let (leader, followers) = parted(&members);
        let id = followers[0].member_id();
        let position = members
            .iter()
            .position(|(_, member)| member.member_id() == id);
        let (place, stopped) = members.remove(position.unwrap());
        drop(followers);
        let applied = stopped.status().applied_index;
        stopped.shutdown().await;
        drop(stopped);
        for number in 0..100 {
            write(&leader, create(&format!("t{number}"))).await.unwrap();
        }
        wait_until("the log that it lacks is gone", || {
            leader.status().purged_index > applied
        })
        .await;

        let back = place.start().await;
        // Its start was the second. More than one snapshot may be needed.
        let id_row = || row(&leader, id).unwrap();
        let begun = || place.sessions.lock().unwrap().begun.clone();
        wait_until("it proposes as what the snapshot began", || {
            id_row().incarnation > 2 && begun().last() == Some(&(id_row().incarnation, true))
        })
        .await;
        assert_eq!(begun()[..2], [(1, false), (2, false)]);
        barrier(&back).await;
        assert_eq!(topics(&back).len(), 101);
        write(&back, create("after")).await.unwrap();
        assert_eq!(id_row().away, None);
    });
}
