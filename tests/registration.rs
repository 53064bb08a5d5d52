//! What an nsqd tells one member, every member answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use support::cluster::Cluster;
use support::member::Member;
use support::{wait_for, wait_until};

#[test]
fn a_registration_is_visible_everywhere_when_it_is_answered() {
    let cluster = Cluster::start(3, &[]);
    for (number, member) in cluster.members.iter().enumerate() {
        let host = format!("h{number}");
        let topic = format!("topic{number}");
        let mut nsqd = member.nsqd(&host);
        nsqd.registered(&topic, "billing");
        for other in &cluster.members {
            let answer = other.get(&format!("/lookup?topic={topic}")).unwrap();
            assert!(!answer.is_stale(), "{}", answer.head);
            let json = answer.json();
            assert_eq!(json["channels"], serde_json::json!(["billing"]));
            assert_eq!(json["producers"][0]["broadcast_address"], host.as_str());
        }
        nsqd.leave();
        for other in &cluster.members {
            assert_eq!(other.lookup(&topic), Some(vec![]), "after the nsqd left");
        }
    }
    let hashes = cluster.state_hashes();
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "{hashes:?}"
    );
}

#[test]
fn an_nsqd_at_all_members_is_one_producer() {
    let cluster = Cluster::start(3, &[]);
    let mut sessions: Vec<_> = cluster
        .members
        .iter()
        .map(|member| member.nsqd("h1"))
        .collect();
    for session in &mut sessions {
        session.registered("orders", "");
    }
    for member in &cluster.members {
        assert_eq!(member.lookup("orders").unwrap(), ["h1"]);
    }
    for (left, session) in sessions.into_iter().enumerate() {
        session.leave();
        let expected: &[&str] = if left < 2 { &["h1"] } else { &[] };
        for member in &cluster.members {
            assert_eq!(member.lookup("orders").unwrap(), expected);
        }
    }
}

#[test]
fn admin_writes_at_one_member_are_seen_at_the_next() {
    let cluster = Cluster::start(3, &[]);
    let [a, b, c] = &cluster.members[..] else {
        panic!("three members");
    };
    let created = a
        .post("/channel/create?topic=orders&channel=billing")
        .unwrap();
    assert_eq!(created.status, 200);
    assert_eq!(
        b.get("/channels?topic=orders").unwrap().body,
        r#"{"channels":["billing"]}"#
    );
    assert_eq!(
        c.post("/channel/delete?topic=orders&channel=billing")
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        b.get("/channels?topic=orders").unwrap().body,
        r#"{"channels":[]}"#
    );
    assert_eq!(b.post("/topic/delete?topic=orders").unwrap().status, 200);
    assert_eq!(a.get("/topics").unwrap().body, r#"{"topics":[]}"#);
}

/// nsqadmin asks all its lookupds, and three nsqlookupds would each delete a channel of their own.
#[test]
fn a_channel_can_be_deleted_once_at_each_member() {
    let cluster = Cluster::start(3, &[]);
    let delete = |member: &Member, channel: &str| {
        let target = format!("/channel/delete?topic=orders&channel={channel}");
        let answer = member.post(&target).unwrap();
        (answer.status, answer.body)
    };
    let ok = || (200, String::new());
    let unknown = || (404, r#"{"message":"CHANNEL_NOT_FOUND"}"#.to_string());
    let mut nsqd = cluster.members[2].nsqd("h1");
    nsqd.registered("orders", "billing");
    for member in &cluster.members {
        assert_eq!(delete(member, "billing"), ok(), "{}", member.name);
        assert_eq!(delete(member, "unknown"), unknown(), "{}", member.name);
    }
    for member in &cluster.members {
        assert_eq!(delete(member, "billing"), unknown(), "{}", member.name);
    }
    // One that exists again is deleted again.
    nsqd.registered("orders", "billing");
    for member in &cluster.members {
        assert_eq!(delete(member, "billing"), ok(), "{}", member.name);
    }
    let channels = cluster.members[0].get("/channels?topic=orders").unwrap();
    assert_eq!(channels.body, r#"{"channels":[]}"#);
}

#[test]
fn an_old_claim_that_is_not_repeated_goes_at_the_first_ping() {
    let mut cluster = Cluster::start(3, &[]);
    let mut nsqd = cluster.members[0].nsqd("h1");
    nsqd.registered("kept", "");
    nsqd.registered("dropped", "");
    cluster.members[0].kill();
    cluster.members[0].start();
    cluster.members[0].wait_ready();
    assert_eq!(cluster.members[1].lookup("dropped").unwrap(), ["h1"]);

    let mut nsqd = cluster.members[0].nsqd("h1");
    let index = || cluster.members[0].status().unwrap()["last_log_index"].clone();
    let (before, after) = wait_for("it is answered in time", || {
        let before = index();
        // On a busy machine the proof that it is recorded may take too long: then it is recorded
        // once more.
        let answer = nsqd.register("kept", "").unwrap();
        (answer == "OK").then(|| (before, index()))
    });
    assert_eq!(
        before, after,
        "a claim that is there already costs no log entry"
    );
    assert_eq!(nsqd.command("PING").unwrap(), "OK");
    wait_until("the claim that was not repeated is released", || {
        cluster.members[1].lookup("dropped") == Some(vec![])
    });
    assert_eq!(cluster.members[1].lookup("kept").unwrap(), ["h1"]);
}

#[test]
fn one_session_with_very_many_topics_holds_nobody_up() {
    let cluster = Cluster::start(3, &[]);
    let member = &cluster.members[cluster.leader()];
    let mut nsqd = member.nsqd("h1");
    let mut sent = 0;
    while sent < 20_000 {
        let lines: String = (sent..sent + 200)
            .map(|n| format!("REGISTER t{n}\n"))
            .collect();
        nsqd.send(lines.as_bytes()).unwrap();
        for _ in 0..200 {
            nsqd.answer().unwrap();
        }
        sent += 200;
    }
    let started = std::time::Instant::now();
    assert_eq!(nsqd.command("PING").unwrap(), "OK");
    let stale = member.get("/lookup?topic=t7&consistency=stale").unwrap();
    assert!(stale.body.contains("h1"));
    let took = started.elapsed();
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}
