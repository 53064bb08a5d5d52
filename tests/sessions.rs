//! What an nsqd was told is so, also when its commands come close together, at a bad moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::time::{Duration, Instant};

use support::cluster::Cluster;
use support::member::Member;
use support::{http, wait_until};

/// Stops or continues the process, as a network that fails and comes back would.
fn signal(member: &Member, name: &str) {
    let pid = member.pid().unwrap().to_string();
    let sent = std::process::Command::new("kill")
        .args([name, &pid])
        .status();
    assert!(sent.unwrap().success());
}

fn lists(member: &Member, topic: &str, host: &str) -> bool {
    let hosts = member.lookup(topic);
    hosts.is_some_and(|hosts| hosts.iter().any(|listed| listed == host))
}

#[test]
fn a_topic_outlives_its_channel() {
    let cluster = Cluster::start(1, &[]);
    let member = &cluster.members[0];
    // The second finds what the first has.
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut nsqd = member.nsqd("h1");
        assert_eq!(nsqd.register("orders", "brief").unwrap(), "OK");
        assert_eq!(nsqd.command("UNREGISTER orders brief").unwrap(), "OK");
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
        assert_eq!(nsqd.command("REGISTER other").unwrap(), "OK");
        assert!(lists(member, "orders", "h1"));
        sessions.push(nsqd);
    }
}

#[test]
fn what_is_registered_again_behind_a_pending_release_is_there() {
    let cluster = Cluster::start(3, &[]);
    for round in 0..6 {
        let leader = cluster.leader();
        let others = || (0..3).filter(|member| *member != leader);
        let (host, topic) = (format!("h{round}"), format!("t{round}"));
        let mut nsqd = cluster.members[leader].nsqd(&host);
        assert_eq!(nsqd.register(&topic, "").unwrap(), "OK");
        for other in others() {
            signal(&cluster.members[other], "-STOP");
        }
        let released = nsqd.command(&format!("UNREGISTER {topic}")).unwrap();
        assert!(released.starts_with("E_UNAVAILABLE"), "{released}");
        std::thread::scope(|threads| {
            threads.spawn(|| {
                // While the REGISTER waits, if it does.
                std::thread::sleep(Duration::from_millis(40 * round));
                for other in others() {
                    signal(&cluster.members[other], "-CONT");
                }
            });
            nsqd.register(&topic, "").unwrap();
        });
        cluster.wait_ready();
        wait_until("what is owed has been committed", || {
            let status = cluster.members[leader].status();
            status.is_some_and(|status| status["pending_events"] == 0)
        });
        // One more event behind it, answered when it is committed.
        wait_until("the session commits again", || {
            nsqd.register(&format!("{topic}-after"), "").unwrap() == "OK"
        });
        assert!(
            lists(&cluster.members[leader], &topic, &host),
            "round {round}"
        );
    }
}

#[test]
fn an_nsqd_does_not_wait_again_and_again_for_a_leader_without_a_quorum() {
    let cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let mut nsqd = cluster.members[leader].nsqd("h1");
    assert_eq!(nsqd.register("before", "").unwrap(), "OK");
    for other in (0..3).filter(|member| *member != leader) {
        signal(&cluster.members[other], "-STOP");
    }
    let started = Instant::now();
    for number in 0..50 {
        let answer = nsqd.register(&format!("t{number}"), "").unwrap();
        assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
    }
    assert_eq!(nsqd.command("PING").unwrap(), "OK");
    let took = started.elapsed();
    for other in (0..3).filter(|member| *member != leader) {
        signal(&cluster.members[other], "-CONT");
    }
    assert!(took < Duration::from_secs(5), "{took:?}");
    for number in 0..50 {
        let topic = format!("t{number}");
        wait_until("what is owed is there", || {
            lists(&cluster.members[(leader + 1) % 3], &topic, "h1")
        });
    }
}

#[test]
fn a_ping_brings_a_silent_nsqd_back_before_it_is_answered() {
    let cluster = Cluster::start(3, &["--inactive-producer-timeout=300ms"]);
    let mut nsqd = cluster.members[0].nsqd("h1");
    assert_eq!(nsqd.register("orders", "").unwrap(), "OK");
    for round in 0..5 {
        wait_until("the silent nsqd is hidden", || {
            !lists(&cluster.members[1], "orders", "h1")
        });
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
        assert!(lists(&cluster.members[2], "orders", "h1"), "round {round}");
    }
}

#[test]
fn an_nsqd_with_many_topics_is_settled_quickly() {
    let mut cluster = Cluster::start(1, &[]);
    let count = 8_000;
    // The second time all of it is there already.
    for _ in 0..2 {
        let mut nsqd = cluster.members[0].nsqd("h1");
        for chunk in (0..count).collect::<Vec<u32>>().chunks(200) {
            let lines: String = chunk
                .iter()
                .map(|number| format!("REGISTER t{number} c\n"))
                .collect();
            nsqd.send(lines.as_bytes()).unwrap();
            for _ in chunk {
                // What takes too long on a busy machine is recorded all the same.
                let answer = nsqd.answer().unwrap();
                assert!(
                    answer == "OK" || answer.starts_with("E_UNAVAILABLE"),
                    "{answer}"
                );
            }
        }
        nsqd.registered(&format!("t{}", count - 1), "c");
        let started = Instant::now();
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
        let took = started.elapsed();
        assert!(took < Duration::from_millis(500), "{took:?}");
        cluster.members[0].kill();
        cluster.members[0].start();
        cluster.members[0].wait_ready();
    }
    wait_until("all topics are there", || {
        let topics = cluster.members[0].get("/topics").unwrap().json();
        topics["topics"].as_array().unwrap().len() == count as usize
    });
}

#[test]
fn what_cannot_match_anything_does_not_go_through_the_log() {
    let cluster = Cluster::start(1, &[]);
    let member = &cluster.members[0];
    // Behind the first batch of the member.
    let mut other = member.nsqd("h1");
    other.registered("mails", "");
    let before = member.status().unwrap()["last_log_index"].clone();
    let long = "x".repeat(30_000);
    for target in [
        format!("/topic/delete?topic={long}"),
        format!("/topic/tombstone?topic={long}&node=h1:4151"),
        format!("/topic/tombstone?topic=orders&node={long}"),
    ] {
        let answer = http::request(member.http, "POST", &target).unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
    let mut nsqd = support::nsqd::Nsqd::connect(member.tcp).unwrap();
    let answer = nsqd.identify(&long[..20_000]).unwrap();
    assert!(answer.starts_with("E_BAD_BODY"), "{answer}");
    assert_eq!(member.status().unwrap()["last_log_index"], before);
}
