//! The real nsqd, where there is one: on `PATH`, or in the folder that `NSQ_BIN_DIR` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use support::cluster::Cluster;
use support::member::Member;
use support::real::{Real, find, publish};
use support::{http, wait_until};

fn lists_one(member: &Member, topic: &str) -> bool {
    member
        .lookup(topic)
        .is_some_and(|hosts| hosts == ["127.0.0.1"])
}

#[test]
fn a_real_nsqd_stays_listed_while_its_member_is_killed_and_restarted() {
    let Some(program) = find("nsqd") else { return };
    let mut cluster = Cluster::start(3, &[]);
    let folder = tempfile::tempdir().unwrap();
    let nsqd = Real::nsqd(&program, folder.path(), &[cluster.members[0].tcp]);
    nsqd.create_channel("orders", "billing");
    nsqd.post("/topic/create?topic=dropped");
    for member in &cluster.members {
        wait_until("every member lists it", || {
            lists_one(member, "orders") && lists_one(member, "dropped")
        });
        wait_until("every member knows the channel", || {
            let channels = member.get("/channels?topic=orders");
            channels.is_some_and(|answer| answer.body == r#"{"channels":["billing"]}"#)
        });
    }
    cluster.members[0].kill();
    assert!(lists_one(&cluster.members[1], "orders"));
    nsqd.post("/topic/delete?topic=dropped");
    cluster.members[0].start();
    cluster.members[0].wait_ready();
    // It comes back at one of its next two PINGs; until then nothing is missing. With the PING behind
    // its registrations it has said all that it has.
    wait_until("nsqd has come back, without the topic", || {
        assert!(lists_one(&cluster.members[0], "orders"));
        assert!(lists_one(&cluster.members[2], "orders"));
        cluster.members[2].lookup("dropped") == Some(vec![])
    });
    let log = cluster.members[0].log();
    assert_eq!(log.matches(": IDENTIFY Address:").count(), 2, "{log}");
    drop(nsqd);
    wait_until("nsqd is gone", || {
        cluster.members[1].lookup("orders") == Some(vec![])
    });
}

/// The first message that a fresh nsqd publishes, to a topic that it did not know: whether it is in
/// the channel that was created at its lookupds before.
fn first_message_waits_for_its_channel(nsqd: &Real, number: u32) -> bool {
    publish(nsqd, &format!("orders{number}"), "first");
    let target = format!("/stats?format=json&topic=orders{number}");
    let stats = http::request(nsqd.http, "GET", &target).unwrap().json();
    let channels = stats["topics"][0]["channels"].as_array().unwrap();
    channels.iter().any(|channel| {
        channel["channel_name"] == "billing" && channel["message_count"].as_u64() == Some(1)
    })
}

fn create_channels(lookupd_http: u16) {
    // Several, since nothing tells from outside when nsqd has made use of our introduction.
    for number in 0..100 {
        let target = format!("/channel/create?topic=orders{number}&channel=billing");
        let created = http::request(lookupd_http, "POST", &target).unwrap();
        assert_eq!(created.status, 200);
    }
}

#[test]
fn the_first_message_waits_for_a_consumer_that_only_the_registry_remembers() {
    let Some(program) = find("nsqd") else { return };
    let mut cluster = Cluster::start(3, &[]);
    create_channels(cluster.members[1].http);
    // The cold start of the whole cluster.
    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.start();
    }
    cluster.wait_ready();
    let folder = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = cluster.members.iter().map(|member| member.tcp).collect();
    let nsqd = Real::nsqd(&program, folder.path(), &ports);
    wait_until("nsqd has identified itself everywhere", || {
        let known = |member: &Member| member.log().contains(": IDENTIFY Address:");
        cluster.members.iter().all(known)
    });
    let mut numbers = 0..100;
    wait_until("the first message is in the remembered channel", || {
        let number = numbers.next().expect("one of the topics gets its channel");
        first_message_waits_for_its_channel(&nsqd, number)
    });
}

#[test]
fn the_same_message_is_lost_with_nsqlookupd() {
    let (Some(nsqd), Some(nsqlookupd)) = (find("nsqd"), find("nsqlookupd")) else {
        return;
    };
    let lookupd = Real::start(&nsqlookupd, []);
    let ports = (lookupd.tcp, lookupd.http);
    create_channels(ports.1);
    drop(lookupd);
    let lookupd = Real::start_at(&nsqlookupd, ports, []);
    let folder = tempfile::tempdir().unwrap();
    let nsqd = Real::nsqd(&nsqd, folder.path(), &[lookupd.tcp]);
    wait_until("it is registered", || {
        let nodes = http::request(lookupd.http, "GET", "/nodes").unwrap();
        nodes.body.contains("127.0.0.1")
    });
    for number in 0..100 {
        assert!(!first_message_waits_for_its_channel(&nsqd, number));
    }
}
