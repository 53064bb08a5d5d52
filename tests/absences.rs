//! nsqds that go, or give up topics, while one of their members is down: what only that member
//! holds of them goes, too, and does not come back with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::time::{Duration, Instant};

use support::cluster::Cluster;
use support::member::Member;
use support::nsqd::Nsqd;
use support::wait_until;

/// nsqd 1.3.0 comes back within this time after its connection has ended.
const NSQD_RETURNS: Duration = Duration::from_secs(30);

fn at_both(cluster: &Cluster, members: [usize; 2], host: &str, topics: &[&str]) -> [Nsqd; 2] {
    members.map(|member| {
        let mut nsqd = cluster.members[member].nsqd(host);
        for topic in topics {
            nsqd.registered(topic, "billing");
        }
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
        nsqd
    })
}

fn lists(member: &Member, topic: &str, host: &str) -> bool {
    member
        .lookup(topic)
        .is_some_and(|hosts| hosts.contains(&host.to_string()))
}

/// Waits until the condition holds, at most this long.
#[track_caller]
fn within(most: Duration, what: &str, condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    wait_until(what, condition);
    let took = started.elapsed();
    assert!(took < most, "{what}: {took:?}");
    took
}

#[test]
fn an_nsqd_that_stops_while_a_member_is_down_is_gone_within_a_minute() {
    let mut cluster = Cluster::start(3, &[]);
    let down = (cluster.leader() + 1) % 3;
    let (up, third) = ((down + 1) % 3, (down + 2) % 3);
    let start = |host| at_both(&cluster, [down, up], host, &["orders"]);
    let [_with_member, ends_at_once] = start("at-once");
    let [_with_member, ends_later] = start("later");
    let [_with_member, returns] = start("returns");
    let [_with_member, mut lives] = start("lives");
    let all =
        |member: &Member, hosts: &[&str]| hosts.iter().all(|host| lists(member, "orders", host));
    cluster.members[down].kill();
    // As when a host dies with its member and its nsqd: nobody has noticed yet.
    ends_at_once.leave();
    let up_member = &cluster.members[up];
    assert!(all(up_member, &["at-once", "later", "returns", "lives"]));
    wait_until("the member is found away", || {
        up_member.log().contains("member away: ")
    });
    ends_later.leave();
    returns.leave();
    let left = Instant::now();
    let mut returned = up_member.nsqd("returns");
    returned.registered("orders", "billing");
    within(Duration::from_secs(60), "both are gone", || {
        assert_eq!(lives.command("PING").unwrap(), "OK");
        assert!(all(&cluster.members[third], &["returns", "lives"]));
        let later = lists(&cluster.members[third], "orders", "later");
        assert!(
            later || left.elapsed() > NSQD_RETURNS,
            "{:?}",
            left.elapsed()
        );
        !later && !lists(&cluster.members[third], "orders", "at-once")
    });

    cluster.members[down].start();
    cluster.members[down].wait_ready();
    for member in &cluster.members {
        let hosts = member.lookup("orders").unwrap();
        assert_eq!(hosts, ["lives", "returns"], "{}", member.name);
    }
    let mut nsqd = cluster.members[down].nsqd("lives");
    nsqd.registered("orders", "billing");
    assert_eq!(nsqd.command("PING").unwrap(), "OK");
    let hosts = up_member_lookup(&cluster, up);
    assert_eq!(hosts, ["lives", "returns"]);
}

fn up_member_lookup(cluster: &Cluster, up: usize) -> Vec<String> {
    cluster.members[up].lookup("orders").unwrap()
}

#[test]
fn a_topic_given_up_while_a_member_is_down_is_gone_within_seconds() {
    let mut cluster = Cluster::start(3, &[]);
    let down = (cluster.leader() + 1) % 3;
    let (up, third) = ((down + 1) % 3, (down + 2) % 3);
    let topics = ["at-once", "later", "kept"];
    let [_with_member, mut nsqd] = at_both(&cluster, [down, up], "h1", &topics);
    cluster.members[down].kill();
    assert_eq!(nsqd.command("UNREGISTER at-once").unwrap(), "OK");
    within(Duration::from_secs(15), "it is gone", || {
        !lists(&cluster.members[third], "at-once", "h1")
    });
    // Now that the member is known to be away, nothing is waited for.
    assert_eq!(nsqd.command("UNREGISTER later billing").unwrap(), "OK");
    assert_eq!(nsqd.command("UNREGISTER later").unwrap(), "OK");
    for member in [up, third] {
        assert!(!lists(&cluster.members[member], "later", "h1"));
        assert!(lists(&cluster.members[member], "kept", "h1"));
    }

    cluster.members[down].start();
    cluster.members[down].wait_ready();
    let mut back = cluster.members[down].nsqd("h1");
    back.registered("kept", "billing");
    assert_eq!(back.command("PING").unwrap(), "OK");
    for member in &cluster.members {
        assert!(!lists(member, "at-once", "h1"), "{}", member.name);
        assert!(!lists(member, "later", "h1"), "{}", member.name);
        assert!(lists(member, "kept", "h1"), "{}", member.name);
    }
    // What nobody else has is left to the connection that comes back.
    nsqd.leave();
    assert!(lists(&cluster.members[third], "kept", "h1"));
    back.leave();
    assert!(!lists(&cluster.members[third], "kept", "h1"));
}
