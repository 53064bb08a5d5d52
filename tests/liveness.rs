//! Producers stay listed exactly as long as they should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::time::{Duration, Instant};

use support::cluster::Cluster;
use support::nsqd::Nsqd;
use support::wait_until;

fn listed() -> Option<Vec<String>> {
    Some(vec!["h1".to_string()])
}

fn hidden() -> Option<Vec<String>> {
    Some(vec![])
}

#[test]
fn an_nsqd_that_falls_silent_is_hidden_until_its_next_ping() {
    let cluster = Cluster::start(3, &["--inactive-producer-timeout=1s"]);
    let mut nsqd = cluster.members[0].nsqd("h1");
    nsqd.registered("orders", "billing");
    for _ in 0..2 {
        for member in &cluster.members {
            wait_until("the silent nsqd is hidden", || {
                member.lookup("orders") == hidden()
            });
            assert_eq!(member.get("/nodes").unwrap().body, r#"{"producers":[]}"#);
            let channels = member.get("/channels?topic=orders").unwrap().body;
            assert_eq!(channels, r#"{"channels":["billing"]}"#);
        }
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
        wait_until("the PING brings it back", || {
            cluster.members[1].lookup("orders") == listed()
        });
    }
}

#[test]
fn pings_keep_an_nsqd_listed() {
    let cluster = Cluster::start(1, &["--inactive-producer-timeout=1s"]);
    let mut nsqd = cluster.members[0].nsqd("h1");
    nsqd.registered("orders", "");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
        assert_eq!(cluster.members[0].lookup("orders"), listed());
    }
}

#[test]
fn what_an_nsqd_does_not_come_back_for_is_detached() {
    let mut cluster = Cluster::start(3, &["--inactive-producer-timeout=2s"]);
    let mut gone = cluster.members[0].nsqd("h1");
    gone.registered("orders", "");
    let mut back = cluster.members[0].nsqd("h2");
    back.registered("mails", "");
    cluster.members[0].kill();
    cluster.members[0].start();
    cluster.members[0].wait_ready();
    assert_eq!(
        cluster.members[1].lookup("orders"),
        listed(),
        "right after the restart"
    );
    let mut back = cluster.members[0].nsqd("h2");
    back.registered("mails", "");
    wait_until("the abandoned producer is detached", || {
        assert_eq!(back.command("PING").unwrap(), "OK");
        cluster.members[1].lookup("orders") == hidden()
    });
    assert_eq!(cluster.members[1].lookup("mails").unwrap(), ["h2"]);
    let status = cluster.members[1].status().unwrap();
    assert_eq!(status["attachments"], 1, "not hidden but gone: {status}");
    let metrics = cluster.members[0].get("/metrics").unwrap().body;
    let counted = r#"nsqlookup_nsqd_session_events_total{kind="abandoned"} 1"#;
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
}

#[test]
fn a_member_that_stays_away_is_hidden_until_it_is_back() {
    let mut cluster = Cluster::start(3, &["--inactive-producer-timeout=5s"]);
    let away = (cluster.leader() + 1) % 3;
    let present = (away + 1) % 3;
    let mut nsqd = cluster.members[away].nsqd("h1");
    for number in 0..20 {
        nsqd.registered(&format!("t{number}"), "");
    }
    let before = log_index(&cluster, present);
    cluster.members[away].kill();
    let absent = |kind: &str| {
        let metrics = cluster.members[present].get("/metrics").unwrap().body;
        let name = format!(r#"nsqlookup_members_absent{{kind="{kind}"}} "#);
        let found = metrics.lines().find_map(|line| line.strip_prefix(&name));
        found.unwrap().to_string()
    };
    assert_eq!((absent("away"), absent("hidden")), ("0".into(), "0".into()));
    wait_until("it is recorded as away", || absent("away") == "1");
    assert_eq!(absent("hidden"), "0");
    assert_eq!(
        cluster.members[present].lookup("t7"),
        listed(),
        "the nsqd lives"
    );
    wait_until("it is away for too long", || {
        cluster.members[present].lookup("t7") == hidden()
    });
    assert_eq!(absent("hidden"), "1");
    // One event for the absence, none for hiding. On a busy machine others may be found away, too.
    let grown = log_index(&cluster, present) - before;
    assert!((1..10).contains(&grown), "{grown} entries for 20 claims");
    for text in [
        "member away: its nsqds stay listed for now",
        "member away for too long: its nsqds are hidden until it is back",
    ] {
        wait_until(text, || cluster.members[present].log().contains(text));
    }

    cluster.members[away].start();
    wait_until("it is back", || {
        cluster.members[present].lookup("t7") == listed()
    });
    wait_until("it says so", || {
        cluster.members[present].log().contains("member back")
    });
    // Its nsqd comes back after the restart, as nsqd does within seconds.
    let mut nsqd = Nsqd::identified(cluster.members[away].tcp, "h1").unwrap();
    for number in 0..20 {
        nsqd.registered(&format!("t{number}"), "");
    }
    assert_eq!(cluster.members[present].lookup("t19"), listed());
}

fn log_index(cluster: &Cluster, member: usize) -> u64 {
    cluster.members[member].status().unwrap()["last_log_index"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_deleted_topic_is_not_brought_back_by_those_who_had_it() {
    let cluster = Cluster::start(3, &[]);
    let mut nsqd = cluster.members[0].nsqd("h1");
    nsqd.registered("orders", "billing");
    assert_eq!(
        cluster.members[1]
            .post("/topic/delete?topic=orders")
            .unwrap()
            .status,
        200
    );
    assert_eq!(nsqd.command("PING").unwrap(), "OK");
    nsqd.registered("mails", "");
    assert_eq!(
        cluster.members[2].get("/topics").unwrap().body,
        r#"{"topics":["mails"]}"#
    );
    nsqd.registered("orders", "billing");
    assert_eq!(cluster.members[2].lookup("orders"), listed());
}

#[test]
fn without_a_quorum_reads_are_marked_and_nsqd_is_not_sent_away() {
    let mut cluster = Cluster::start(3, &[]);
    let left = cluster.leader();
    let mut nsqd = cluster.members[left].nsqd("h1");
    nsqd.registered("orders", "");
    let others: Vec<usize> = (0..3).filter(|member| *member != left).collect();
    for other in &others {
        cluster.members[*other].kill();
    }
    let member = &cluster.members[left];
    let timed = |target: &str| {
        let started = Instant::now();
        let answer = member.get(target).unwrap();
        assert!(
            started.elapsed() < Duration::from_millis(1500),
            "{target}: {:?}",
            started.elapsed()
        );
        answer
    };
    let stale = timed("/lookup?topic=orders");
    assert_eq!(
        (stale.status, stale.is_stale()),
        (200, true),
        "{}",
        stale.head
    );
    assert!(
        stale
            .header("X-Raftlookupd-Staleness-Ms")
            .unwrap()
            .parse::<u64>()
            .is_ok()
    );
    assert!(stale.body.contains("h1"));
    assert_eq!(
        timed("/lookup?topic=orders&consistency=linearizable").status,
        503
    );
    let refused = member.post("/topic/create?topic=mails").unwrap();
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (503, r#"{"message":"NO_QUORUM"}"#)
    );

    let started = Instant::now();
    let answer = nsqd.register("later", "").unwrap();
    assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
    assert!(
        started.elapsed() < Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(nsqd.command("PING").unwrap(), "OK");
    // It is recorded as soon as there is a quorum, on the same connection.
    cluster.members[others[0]].start();
    wait_until("the registration arrives", || {
        cluster.members[others[0]].lookup("later") == listed()
    });
    nsqd.registered("after", "");
    let topics = cluster.members[left].get("/topics").unwrap();
    assert_eq!(
        topics.body, r#"{"topics":["after","later","orders"]}"#,
        "nothing half done"
    );
}
