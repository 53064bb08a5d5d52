//! What an nsqd tells one member, every member answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use support::cluster::Cluster;
use support::wait_until;

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
    let again = b
        .post("/channel/delete?topic=orders&channel=billing")
        .unwrap();
    assert_eq!(
        (again.status, again.body.as_str()),
        (404, r#"{"message":"CHANNEL_NOT_FOUND"}"#)
    );
    assert_eq!(b.post("/topic/delete?topic=orders").unwrap().status, 200);
    assert_eq!(a.get("/topics").unwrap().body, r#"{"topics":[]}"#);
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
    let before = cluster.members[0].status().unwrap()["last_log_index"].clone();
    nsqd.registered("kept", "");
    let after = cluster.members[0].status().unwrap()["last_log_index"].clone();
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
fn a_claim_that_is_about_to_be_released_is_made_anew() {
    let cluster = Cluster::start(3, &[]);
    for (number, member) in cluster.members.iter().cycle().take(30).enumerate() {
        let topic = format!("t{number}");
        let mut older = member.nsqd("h1");
        older.registered(&topic, "billing");
        // The PING says that this is all it has; then it turns out that it has the topic, too.
        let mut newer = member.nsqd("h1");
        assert_eq!(newer.command("PING").unwrap(), "OK");
        newer.registered(&topic, "billing");
        assert_eq!(member.lookup(&topic).unwrap(), ["h1"], "{topic}");
        newer.leave();
    }
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
