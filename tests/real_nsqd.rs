//! The real nsqd, where there is one: on `PATH`, or in the folder that `NSQ_BIN_DIR` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use support::cluster::Cluster;
use support::member::Member;
use support::real::{Real, find};
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
    for member in &cluster.members {
        wait_until("every member lists it", || lists_one(member, "orders"));
        wait_until("every member knows the channel", || {
            let channels = member.get("/channels?topic=orders");
            channels.is_some_and(|answer| answer.body == r#"{"channels":["billing"]}"#)
        });
    }
    cluster.members[0].kill();
    assert!(lists_one(&cluster.members[1], "orders"));
    cluster.members[0].start();
    cluster.members[0].wait_ready();
    // nsqd notices at its next PING, after 15 seconds at most; until then nothing is missing.
    wait_until("nsqd has come back", || {
        assert!(lists_one(&cluster.members[0], "orders"));
        assert!(lists_one(&cluster.members[2], "orders"));
        cluster.members[0]
            .log()
            .matches("nsqd identified itself")
            .count()
            == 2
    });
    drop(nsqd);
    wait_until("nsqd is gone", || {
        cluster.members[1].lookup("orders") == Some(vec![])
    });
}

#[test]
fn a_fresh_nsqd_creates_the_channels_that_only_the_registry_remembers() {
    let Some(program) = find("nsqd") else { return };
    let mut cluster = Cluster::start(3, &[]);
    // Several, since nothing tells from outside when nsqd has made use of our introduction.
    for number in 0..100 {
        let target = format!("/channel/create?topic=orders{number}&channel=billing");
        assert_eq!(cluster.members[1].post(&target).unwrap().status, 200);
    }
    // The cold start of the whole cluster.
    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.start();
    }
    cluster.wait_ready();
    let folder = tempfile::tempdir().unwrap();
    let members: Vec<&Member> = cluster.members.iter().collect();
    let ports: Vec<u16> = members.iter().map(|member| member.tcp).collect();
    let nsqd = Real::nsqd(&program, folder.path(), &ports);
    wait_until("nsqd has identified itself everywhere", || {
        let known = |member: &&Member| member.log().contains("nsqd identified itself");
        members.iter().all(known)
    });
    let mut numbers = 0..100;
    wait_until("the remembered channel exists at the fresh nsqd", || {
        let number = numbers.next().expect("one of the topics gets its channel");
        // nsqd asks for the channels of a new topic before it answers.
        let target = format!("/topic/create?topic=orders{number}");
        assert_eq!(
            http::request(nsqd.http, "POST", &target).unwrap().status,
            200
        );
        let target = format!("/stats?format=json&topic=orders{number}");
        let stats = http::request(nsqd.http, "GET", &target).unwrap();
        stats.body.contains(r#""channel_name":"billing""#)
    });
}
