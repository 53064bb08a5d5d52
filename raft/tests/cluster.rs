//! Three members agree: what one of them acknowledges, all of them show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use raftlookupd_raft::Error;
use raftlookupd_raft::storage::event::{Event, Refusal};
use support::{
    DEADLINE, Held, NOON, Place, barrier, create, parted, run, settled, start_all, start_three,
    three_places, topics, wait_until, write,
};

#[test]
fn a_write_at_any_member_is_read_at_any_other() {
    run(async {
        let members = start_three().await;
        for (number, (_, writer)) in members.iter().enumerate() {
            write(writer, create(&format!("t{number}"))).await.unwrap();
            for (_, reader) in &members {
                barrier(reader).await;
                assert_eq!(topics(reader).len(), number + 1);
            }
        }
        let none = Event::DeleteChannel {
            topic: "t0".into(),
            channel: "none".into(),
        };
        let refused = write(&members[1].1, none).await.unwrap_err();
        assert!(
            matches!(refused, Error::Refused(Refusal::ChannelNotFound)),
            "{refused}"
        );
        let ids = members.iter().map(|(_, member)| member.member_id());
        assert_eq!(ids.collect::<Vec<u64>>(), [1, 2, 3]);
    });
}

#[test]
fn submitted_events_are_applied_in_order_and_once() {
    run(async {
        let members = start_three().await;
        let writer = &members[2].1;
        barrier(writer).await;
        let mut pending = Vec::new();
        for _ in 0..200 {
            pending.push(writer.submit(create("orders")).unwrap());
            let deleted = Event::DeleteTopic {
                topic: "orders".into(),
            };
            pending.push(writer.submit(deleted).unwrap());
        }
        pending.push(writer.submit(create("last")).unwrap());
        for fate in pending {
            tokio::time::timeout(DEADLINE, fate).await.unwrap().unwrap();
        }
        barrier(&members[0].1).await;
        assert_eq!(topics(&members[0].1), ["last"]);
        let entries = members[0].1.status().last_log_index;
        assert!(entries < 200, "401 events took {entries} log entries");
    });
}

#[test]
fn without_a_quorum_nothing_is_promised_and_nothing_is_lost() {
    run(async {
        let mut members = start_three().await;
        write(&members[0].1, create("before")).await.unwrap();
        let (_place_c, c) = members.remove(2);
        let (place_b, b) = members.remove(1);
        b.shutdown().await;
        c.shutdown().await;
        drop((b, c));
        let a = &members[0].1;
        let short = Duration::from_millis(300);
        assert!(matches!(a.barrier(short).await, Err(Error::NoQuorum)));
        assert!(matches!(
            a.write(create("refused"), short).await,
            Err(Error::NoQuorum)
        ));
        let submitted = a.submit(create("submitted")).unwrap();
        let b = place_b.start().await;
        tokio::time::timeout(DEADLINE, submitted)
            .await
            .unwrap()
            .unwrap();
        barrier(&b).await;
        assert_eq!(topics(&b), ["before", "submitted"]);
    });
}

/// What a follower shows already, the leader and the others must not deny.
#[test]
fn a_leader_that_is_late_in_applying_does_not_confirm_old_reads() {
    run(async {
        let members = start_three().await;
        write(&members[0].1, create("before")).await.unwrap();
        settled(&members).await;
        let (leader, followers) = parted(&members);
        let held = Held::registry_of(&leader);
        let pending = followers[0].submit(create("orders")).unwrap();
        wait_until("a follower shows it", || topics(&followers[0]).len() == 2).await;
        let early = leader.barrier(Duration::from_millis(300)).await;
        assert!(matches!(early, Err(Error::NoQuorum)));
        drop(held);
        for member in followers.iter().chain([&leader]) {
            barrier(member).await;
            assert_eq!(topics(member), ["before", "orders"]);
        }
        tokio::time::timeout(DEADLINE, pending)
            .await
            .unwrap()
            .unwrap();
    });
}

#[test]
fn a_write_that_was_proposed_before_its_deadline_has_an_unknown_outcome() {
    run(async {
        let members = start_three().await;
        write(&members[0].1, create("before")).await.unwrap();
        settled(&members).await;
        let (leader, followers) = parted(&members);
        // It acknowledges nothing that it has not applied.
        let held = Held::registry_of(&leader);
        let short = Duration::from_millis(500);
        let written = followers[0].write(create("orders"), short).await;
        assert!(matches!(written, Err(Error::OutcomeUnknown)), "{written:?}");
        drop(held);
        wait_until("it is committed", || topics(&leader).len() == 2).await;
    });
}

#[test]
fn a_write_that_still_waits_at_its_deadline_is_never_proposed() {
    run(async {
        let members = start_three().await;
        settled(&members).await;
        let (place, member) = &members[0];
        let (held, is_held) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel();
        place.sessions.lock().unwrap().hold = Some((held, released));
        let first = member.submit(create("first")).unwrap();
        is_held.recv_timeout(DEADLINE).unwrap();
        // The batch is being made, and the request not taken yet.
        let late = member
            .write(create("late"), Duration::from_millis(500))
            .await;
        assert!(matches!(late, Err(Error::NoQuorum)), "{late:?}");
        release.send(()).unwrap();
        tokio::time::timeout(DEADLINE, first)
            .await
            .unwrap()
            .unwrap();
        write(member, create("second")).await.unwrap();
        assert_eq!(topics(member), ["first", "second"]);
    });
}

#[test]
fn a_cluster_of_one_keeps_its_topics_and_counts_its_starts() {
    run(async {
        let place = Place::alone();
        for start in 1..4 {
            let member = place.start().await;
            let topic = format!("t{start}");
            write(&member, create(&topic)).await.unwrap();
            assert_eq!(topics(&member).len(), start);
            let id = member.member_id();
            let incarnation = member.read(|db| db.member(id).unwrap().incarnation);
            assert_eq!(incarnation, start as u64);
            member.shutdown().await;
        }
        let begun = place.sessions.lock().unwrap().begun.clone();
        assert_eq!(begun, [(1, false), (2, false), (3, false)]);
    });
}

#[test]
fn clocks_that_are_minutes_apart_show_the_same_time() {
    const MINUTE: u64 = 60_000;
    run(async {
        let mut places = three_places();
        for (number, (place, _)) in (0..).zip(&mut places) {
            place.wall_clock = NOON + number * 10 * MINUTE;
        }
        let mut members = start_all(places).await;
        let begun = Instant::now();
        for (_, member) in &members {
            barrier(member).await;
        }
        let first = members[0].1.now();
        let agree = |now: u64| {
            let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap();
            assert!(
                now.abs_diff(first) <= elapsed + 1_000,
                "{first}, then {now}"
            );
        };
        for (_, member) in &members {
            agree(member.now());
        }
        // The next leader goes on from there, and so does a member that starts with another clock.
        let leader = parted(&members).0.member_id();
        let led = members
            .iter()
            .position(|(_, member)| member.member_id() == leader);
        let (mut place, stopped) = members.remove(led.unwrap());
        stopped.shutdown().await;
        drop(stopped);
        barrier(&members[0].1).await;
        agree(members[0].1.now());
        place.wall_clock = NOON - 10 * MINUTE;
        let back = place.start().await;
        barrier(&back).await;
        agree(back.now());
    });
}

#[test]
fn what_waits_for_a_quorum_is_bounded() {
    run(async {
        let mut members = start_three().await;
        for _ in 0..2 {
            let (_, stopped) = members.pop().unwrap();
            stopped.shutdown().await;
        }
        let alone = &members[0].1;
        let megabyte = create(&"x".repeat(1024 * 1024));
        let mut waiting = Vec::new();
        let full = loop {
            match alone.submit(megabyte.clone()) {
                Ok(pending) => waiting.push(pending),
                Err(error) => break error,
            }
            assert!(waiting.len() < 20, "there is no bound");
        };
        assert!(matches!(full, Error::QueueFull), "{full}");
        assert_eq!(alone.status().pending_events, waiting.len());
        // What is small still has a chance.
        alone.submit(create("orders")).unwrap();
    });
}

#[test]
fn strangers_at_the_peer_ports_keep_no_member_out() {
    run(async {
        let mut members = start_three().await;
        write(&members[0].1, create("before")).await.unwrap();
        let mut strangers: Vec<TcpStream> = Vec::new();
        for (place, _) in &members {
            strangers.extend((0..200).map(|_| place.connect()));
        }
        for stranger in &mut strangers {
            // It may be cut off already.
            let _ = stranger.write_all(b"GET / HTTP/1.1\r\n");
        }
        let (place, stopped) = members.remove(2);
        stopped.shutdown().await;
        drop(stopped);
        let back = place.start().await;
        strangers.extend((0..200).map(|_| place.connect()));
        write(&back, create("after")).await.unwrap();
        for (_, member) in &members {
            barrier(member).await;
            assert_eq!(topics(member), ["after", "before"]);
        }
    });
}
