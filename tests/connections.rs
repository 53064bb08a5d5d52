//! Several connections of one nsqd, and connections that begin, register or end at a bad moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use support::cluster::Cluster;
use support::member::Member;
use support::nsqd::Nsqd;
use support::wait_until;

/// nsqd gives a lookupd one second for each command.
const NSQD_WAITS: Duration = Duration::from_millis(900);

fn h1() -> Option<Vec<String>> {
    Some(vec!["h1".to_string()])
}

fn nobody() -> Option<Vec<String>> {
    Some(vec![])
}

/// What each member lists for a topic, which must be the same.
#[track_caller]
fn all_list(cluster: &Cluster, topic: &str, expected: &Option<Vec<String>>) {
    for member in &cluster.members {
        assert_eq!(member.lookup(topic), *expected, "{topic}, {}", member.name);
    }
}

fn metric(member: &Member, name: &str) -> u64 {
    let text = member.get("/metrics").unwrap().body;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

/// nsqd gave up a connection, and came back on another; then what it had sent on the first one
/// arrives.
#[test]
fn a_late_identify_of_an_abandoned_connection_takes_nothing_away() {
    let cluster = Cluster::start(3, &[]);
    let mut abandoned = Nsqd::connect(cluster.members[0].tcp).unwrap();
    let mut nsqd = cluster.members[0].nsqd("h1");
    nsqd.registered("orders", "billing");
    assert_eq!(nsqd.command("PING").unwrap(), "OK");
    assert!(abandoned.identify("h1").unwrap().starts_with('{'));
    all_list(&cluster, "orders", &h1());
    nsqd.registered("mails", "");
    all_list(&cluster, "mails", &h1());
    abandoned.leave();
    all_list(&cluster, "orders", &h1());
    all_list(&cluster, "mails", &h1());
    let channels = cluster.members[1].get("/channels?topic=orders").unwrap();
    assert_eq!(channels.body, r#"{"channels":["billing"]}"#);
    nsqd.leave();
    all_list(&cluster, "orders", &nobody());
}

#[test]
fn a_connection_that_ends_takes_only_what_no_other_has() {
    let cluster = Cluster::start(3, &[]);
    for newer_ends in [true, false] {
        let mut older = cluster.members[0].nsqd("h1");
        older.registered("orders", "");
        older.registered("of-older", "");
        let mut newer = cluster.members[0].nsqd("h1");
        newer.registered("orders", "");
        newer.registered("of-newer", "");
        // Before its first PING it may not have registered everything: nothing would go.
        for nsqd in [&mut older, &mut newer] {
            assert_eq!(nsqd.command("PING").unwrap(), "OK");
        }
        let (ends, mut stays) = match newer_ends {
            true => (newer, older),
            false => (older, newer),
        };
        ends.leave();
        let kept = |is_kept: bool| if is_kept { h1() } else { nobody() };
        all_list(&cluster, "orders", &h1());
        all_list(&cluster, "of-older", &kept(newer_ends));
        all_list(&cluster, "of-newer", &kept(!newer_ends));
        // It is still answered, and what it is told is so.
        stays.registered("after", "");
        all_list(&cluster, "after", &h1());
        assert_eq!(stays.command("UNREGISTER orders").unwrap(), "OK");
        all_list(&cluster, "orders", &nobody());
        stays.leave();
        all_list(&cluster, "after", &nobody());
    }
}

#[test]
fn a_topic_registered_while_another_connection_ends_stays() {
    let cluster = Cluster::start(3, &[]);
    for (number, member) in cluster.members.iter().cycle().take(30).enumerate() {
        let topic = format!("t{number}");
        let mut older = member.nsqd("h1");
        older.registered(&topic, "billing");
        let mut newer = member.nsqd("h1");
        std::thread::scope(|threads| {
            threads.spawn(|| older.leave());
            newer.registered(&topic, "billing");
        });
        assert_eq!(member.lookup(&topic), h1(), "{topic}");
        newer.leave();
        assert_eq!(member.lookup(&topic), nobody(), "{topic}");
    }
}

#[test]
fn two_nsqds_with_one_address_are_listed_with_the_topics_of_both() {
    let cluster = Cluster::start(3, &[]);
    let mut one = cluster.members[0].nsqd("h1");
    let mut other = cluster.members[0].nsqd("h1");
    for round in 0..3 {
        one.registered("orders", "");
        other.registered("mails", "");
        for nsqd in [&mut one, &mut other] {
            assert_eq!(nsqd.command("PING").unwrap(), "OK");
        }
        all_list(&cluster, "orders", &h1());
        all_list(&cluster, "mails", &h1());
        let nsqd = [&mut one, &mut other][round % 2].command("UNREGISTER orders");
        assert_eq!(nsqd.unwrap(), "OK");
        // Whoever has not registered it cannot take it away.
        let expected = if round % 2 == 0 { nobody() } else { h1() };
        all_list(&cluster, "orders", &expected);
    }
    let said = "two connections announce the same nsqd; their registrations are combined";
    let log = cluster.members[0].log();
    assert_eq!(log.matches(said).count(), 1, "{log}");
    assert_eq!(
        metric(&cluster.members[0], "nsqlookup_nsqd_sessions_surplus"),
        1
    );
    one.leave();
    all_list(&cluster, "orders", &nobody());
    all_list(&cluster, "mails", &h1());
}

#[test]
fn a_silent_connection_gives_way_to_one_that_is_heard() {
    let cluster = Cluster::start(3, &["--inactive-producer-timeout=1s"]);
    let member = &cluster.members[0];
    let mut silent = member.nsqd("h1");
    silent.registered("orders", "");
    silent.registered("dropped", "");
    let mut nsqd = member.nsqd("h1");
    nsqd.registered("orders", "");
    all_list(&cluster, "dropped", &h1());
    wait_until("what only the silent connection has is gone", || {
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
        assert_eq!(member.lookup("orders"), h1());
        member.lookup("dropped") == nobody()
    });
    let ended = silent.command("PING").unwrap_err();
    let endings = [
        ErrorKind::UnexpectedEof,
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
    ];
    assert!(endings.contains(&ended.kind()), "{ended}");
    let counted = r#"nsqlookup_nsqd_session_events_total{kind="presumed_dead"}"#;
    assert_eq!(metric(member, counted), 1);
    assert_eq!(metric(member, "nsqlookup_nsqd_sessions_surplus"), 0);
}

/// One member of three, and the leader: it cannot commit.
fn without_a_quorum() -> (Cluster, usize) {
    let mut cluster = Cluster::start(3, &[]);
    let left = cluster.leader();
    for other in (0..3).filter(|member| *member != left) {
        cluster.members[other].kill();
    }
    (cluster, left)
}

#[test]
fn what_was_unavailable_is_recorded_later_unless_its_connection_ended() {
    let (mut cluster, left) = without_a_quorum();
    let mut stays = cluster.members[left].nsqd("h1");
    let mut ends = cluster.members[left].nsqd("h2");
    for nsqd in [&mut stays, &mut ends] {
        for topic in ["orders", "dropped"] {
            let answer = nsqd.register(topic, "billing").unwrap();
            assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
        }
        // No attempt to commit it may be under way: what is then in a batch may be recorded.
        let answer = nsqd.command("UNREGISTER dropped").unwrap();
        assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
    }
    ends.leave();
    let other = (left + 1) % 3;
    cluster.members[other].start();
    let member = &cluster.members[other];
    wait_until("the open connection's topic is recorded", || {
        member
            .lookup("orders")
            .is_some_and(|hosts| hosts.contains(&"h1".into()))
    });
    wait_until("the other's is not, or no longer", || {
        member.lookup("orders") == h1()
    });
    stays.registered("after", "");
    assert_eq!(member.lookup("orders"), h1());
    assert!(
        member
            .lookup("dropped")
            .is_none_or(|hosts| hosts.is_empty())
    );
}

#[test]
fn an_nsqd_is_introduced_before_the_cluster_has_formed() {
    let mut cluster = Cluster::prepare(3, &[]);
    cluster.members[0].start();
    wait_until("it listens", || {
        Nsqd::connect(cluster.members[0].tcp).is_ok()
    });
    let mut nsqd = Nsqd::connect(cluster.members[0].tcp).unwrap();
    let in_time = |what: &str, command: &mut dyn FnMut() -> String| {
        let started = Instant::now();
        let answer = command();
        let took = started.elapsed();
        assert!(took < NSQD_WAITS, "{what}: {took:?}");
        answer
    };
    let answer = in_time("IDENTIFY", &mut || nsqd.identify("h1").unwrap());
    assert!(answer.contains("broadcast_address"), "{answer}");
    let answer = in_time("REGISTER", &mut || {
        nsqd.register("orders", "billing").unwrap()
    });
    assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
    assert_eq!(in_time("PING", &mut || nsqd.command("PING").unwrap()), "OK");
    // nsqd asks for it, and takes an empty answer for the truth.
    let channels = cluster.members[0].get("/channels?topic=orders").unwrap();
    assert_eq!(channels.status, 503, "{}", channels.body);

    for member in &mut cluster.members[1..] {
        member.start();
    }
    wait_until("what it registered is recorded", || {
        let lookup = |member: &Member| member.lookup("orders") == h1();
        cluster.members.iter().all(lookup)
    });
    nsqd.registered("orders", "billing");
    nsqd.leave();
    assert_eq!(cluster.members[1].lookup("orders"), nobody());
}

#[test]
fn a_client_that_registers_without_end_is_closed_and_hurts_no_other() {
    let (mut cluster, left) = without_a_quorum();
    let member = &cluster.members[left];
    let mut nsqd = member.nsqd("h1");
    let flood = member.nsqd("flood");
    let mut longest = Duration::ZERO;
    let sent = std::thread::scope(|threads| {
        let flooding = threads.spawn(|| register_until_closed(flood));
        let mut number = 0;
        while !flooding.is_finished() {
            for line in [
                format!("REGISTER own{} billing", number % 100),
                "PING".into(),
            ] {
                let started = Instant::now();
                nsqd.command(&line).unwrap();
                longest = longest.max(started.elapsed());
            }
            let lookup = member
                .get("/lookup?topic=orders&consistency=stale")
                .unwrap();
            assert!([200, 404].contains(&lookup.status));
            number += 1;
        }
        flooding.join().unwrap()
    });
    assert!(longest < 3 * NSQD_WAITS, "{longest:?}, {sent} were sent");
    let log = member.log();
    let said = "too many registrations of this client wait for a quorum";
    assert_eq!(log.matches(said).count(), 1, "after {sent}: {log}");

    let other = (left + 1) % 3;
    cluster.members[other].start();
    cluster.members[other].wait_ready();
    wait_until("the other's topics are recorded", || {
        cluster.members[other].lookup("own0") == h1()
    });
    nsqd.registered("after", "");
    let topics = cluster.members[other].get("/topics").unwrap().json();
    let topics = topics["topics"].as_array().unwrap().len();
    // What a batch was made of before the connection ended.
    assert!(topics < 5_000, "{topics} topics of {sent}");
}

/// How many lines were sent.
fn register_until_closed(mut nsqd: Nsqd) -> usize {
    let window = 200;
    for round in 0.. {
        let numbers = round * window..(round + 1) * window;
        let line = |number| format!("REGISTER flood{number:059} billing\n");
        let lines: String = numbers.map(line).collect();
        if nsqd.send(lines.as_bytes()).is_err() {
            return round * window;
        }
        for _ in 0..window {
            match nsqd.answer() {
                Ok(answer) => assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}"),
                Err(_) => return round * window,
            }
        }
        assert!(round < 5_000, "a million is not too much");
    }
    unreachable!("it is closed before");
}
