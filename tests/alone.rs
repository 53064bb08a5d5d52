//! Clusters of one that share a host, as nsqlookupds do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::process::Command;

use support::member::Member;
use support::wait_until;

/// A member that is not told where to listen for others.
fn alone(name: &str, folder: &std::path::Path) -> Member {
    let mut member = Member::new(name, folder);
    member.peer = 0;
    member
}

#[test]
fn clusters_of_one_share_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let mut members = [alone("a", folder.path()), alone("b", folder.path())];
    for member in &mut members {
        member.start();
    }
    for member in &mut members {
        member.wait_ready();
        member.nsqd("h1").registered("orders", "");
        assert!(!member.log().contains("PEERS"), "{}", member.log());
    }
    let [first, second] = &mut members;
    // Another that would use the first one's data.
    second.terminate();
    second.data_path = first.data_path.clone();
    let (code, log) = second.run_to_its_end();
    assert_eq!(code, Some(74), "{log}");
    assert!(log.contains("--data-path"), "{log}");
    // It continues as it was.
    first.terminate();
    first.start();
    wait_until("the topic is there", || first.lookup("orders").is_some());
}

#[test]
fn a_hangup_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut member = alone("a", folder.path());
    member.start();
    member.wait_ready();
    let mut nsqd = member.nsqd("h1");
    let sent = Command::new("kill")
        .args(["-HUP", &member.pid().unwrap().to_string()])
        .status();
    assert!(sent.unwrap().success());
    nsqd.registered("orders", "");
    assert_eq!(member.lookup("orders"), Some(vec!["h1".to_string()]));
    assert!(member.is_running());
}
