//! `raftlookupd cluster` at real members: who joins, who leads, who goes, and with which exit status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use support::cluster::Cluster;
use support::member::Member;
use support::{free_port, http, wait_until};

/// What a command printed and how it ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

/// `raftlookupd cluster`, asked of these ports.
fn command(ports: &[u16], words: &[&str]) -> Ended {
    let endpoints = ports.iter().map(|port| format!("127.0.0.1:{port}"));
    let output = Command::new(env!("CARGO_BIN_EXE_raftlookupd"))
        .arg("cluster")
        .args(words)
        .arg("--endpoints")
        .arg(endpoints.collect::<Vec<_>>().join(","))
        .output()
        .unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn ports(members: &[Member]) -> Vec<u16> {
    members.iter().map(|member| member.http).collect()
}

/// Runs a command that must succeed.
fn done(ports: &[u16], words: &[&str]) -> String {
    let ended = command(ports, words);
    assert_eq!(ended.code, 0, "{words:?}: {}{}", ended.out, ended.err);
    ended.out
}

/// Announces it, starts it, and waits until it votes.
fn grow(cluster: &mut Cluster, name: &str) {
    let mut newcomer = cluster.newcomer(name);
    newcomer.start();
    let address = format!("127.0.0.1:{}", newcomer.peer);
    done(
        &ports(&cluster.members),
        &["add", name, &address, "--wait", "--timeout=60s"],
    );
    cluster.members.push(newcomer);
}

/// Removes it and waits until its process has ended.
fn shrink(cluster: &mut Cluster, at: usize) {
    let mut member = cluster.members.remove(at);
    done(&ports(&cluster.members), &["remove", &member.name]);
    assert_eq!(member.wait_for_exit(), Some(77), "{}", member.log());
    let said = member.log();
    let line = "this member was removed from the cluster";
    assert_eq!(said.matches(line).count(), 1, "{said}");
}

#[test]
fn exit_statuses() {
    let cluster = Cluster::start(3, &[]);
    let all = ports(&cluster.members);
    wait_until("healthy", || command(&all, &["status"]).code == 0);
    let shown = command(&all, &["members", "--output=json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let roles = shown["members"].as_array().unwrap().iter();
    assert!(roles.clone().all(|one| one["role"] == "voter"), "{shown}");
    assert_eq!(roles.filter(|one| one["leader"] == true).count(), 1);

    assert_eq!(command(&all, &["remove"]).code, 2);
    let nobody = [free_port()];
    assert_eq!(command(&nobody, &["members"]).code, 3);
    assert_eq!(command(&all, &["remove", "z"]).code, 5);
    let refused = command(&all, &["remove", "c"]);
    assert_eq!(refused.code, 6, "{}", refused.err);
    assert!(
        refused.err.contains("Add a member first"),
        "{}",
        refused.err
    );
    let second = [nobody[0], all[1]];
    assert_eq!(command(&second, &["members"]).code, 0, "the next is asked");

    let names = ["a", "b", "c"];
    let heir = names[(cluster.leader() + 1) % 3];
    assert_eq!(
        done(&all, &["transfer-leader", "--to", heir])
            .lines()
            .count(),
        1
    );
    assert_eq!(names[cluster.leader()], heir);
}

#[test]
fn without_a_quorum_nothing_is_changed() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.members[1].kill();
    let all = ports(&cluster.members);
    wait_until("b is missed", || command(&all, &["status"]).code == 1);
    cluster.members[2].kill();
    wait_until("no quorum", || command(&all[..1], &["status"]).code == 4);
    assert_eq!(command(&all, &["add", "d", "127.0.0.1:1"]).code, 4);
    assert_eq!(command(&all, &["members"]).code, 0, "what is known here");
}

#[test]
fn who_is_not_announced_stays_out_and_says_so_once() {
    let cluster = Cluster::start(3, &[]);
    let mut stranger = cluster.newcomer("staging");
    stranger.start();
    let waits = || stranger.log().matches("waiting to be admitted").count();
    wait_until("it says why", || waits() > 0);
    let hint = "raftlookupd cluster add staging 127.0.0.1:";
    assert!(stranger.log().contains(hint), "{}", stranger.log());
    // It has asked ten times more.
    let before = cluster.members[0].status().unwrap();
    thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(waits(), 1, "{}", stranger.log());
    assert_eq!(before["members"].as_array().unwrap().len(), 3);
}

/// Lookups at all members while the cluster grows and shrinks.
#[derive(Default)]
struct Lookups {
    stop: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
    stale: AtomicUsize,
}

impl Lookups {
    fn run(&self, port: u16) {
        while !self.stop.load(Ordering::Relaxed) {
            let answer = http::request(port, "GET", "/lookup?topic=orders");
            let counter = match answer {
                Some(answer) if answer.status == 200 && answer.is_stale() => &self.stale,
                Some(answer) if answer.status == 200 => &self.answered,
                _ => &self.failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Ending<'a>(&'a Lookups);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn from_one_to_three_to_five_to_three_under_load() {
    let mut cluster = Cluster::start(1, &[]);
    let mut nsqd = cluster.members[0].nsqd("host");
    nsqd.register("orders", "").unwrap();
    let lookups = Lookups::default();
    let port = cluster.members[0].http;
    thread::scope(|scope| {
        let ending = Ending(&lookups);
        scope.spawn(|| lookups.run(port));
        for name in ["b", "c", "d", "e"] {
            grow(&mut cluster, name);
        }
        let last = cluster.members.len() - 1;
        shrink(&mut cluster, last);
        // The leader goes, unless that is where the load is.
        let leader = cluster.leader();
        shrink(&mut cluster, leader.max(1));
        assert_eq!(cluster.members.len(), 3);
        for member in &cluster.members {
            wait_until("all list it", || {
                member
                    .lookup("orders")
                    .is_some_and(|hosts| hosts == ["host"])
            });
        }
        drop(ending);
    });
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert!(count(&lookups.answered) > 100);
    assert_eq!((count(&lookups.failed), count(&lookups.stale)), (0, 0));
    let shown = done(&[port], &["members"]);
    assert_eq!(shown.lines().count(), 4, "{shown}");
}
