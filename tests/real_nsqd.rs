//! The real nsqd, where there is one: on `PATH`, or in the folder that `NSQ_BIN_DIR` names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::cluster::Cluster;
use support::member::Member;
use support::{free_port, http, wait_until};

/// Where the program is; says so if it is not to be found.
fn find(program: &str) -> Option<PathBuf> {
    let named = std::env::var_os("NSQ_BIN_DIR").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no {program} on PATH or in NSQ_BIN_DIR");
    }
    found
}

/// A real nsqd; killed when dropped.
struct RealNsqd {
    process: Child,
    http: u16,
}

impl RealNsqd {
    fn start(program: &Path, folder: &Path, lookupds: &[&Member]) -> RealNsqd {
        let (tcp, http) = (free_port(), free_port());
        let lookupds = lookupds
            .iter()
            .map(|member| format!("--lookupd-tcp-address=127.0.0.1:{}", member.tcp));
        let process = Command::new(program)
            .arg(format!("--tcp-address=127.0.0.1:{tcp}"))
            .arg(format!("--http-address=127.0.0.1:{http}"))
            .arg(format!("--data-path={}", folder.display()))
            .arg("--broadcast-address=127.0.0.1")
            .args(lookupds)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nsqd = RealNsqd { process, http };
        wait_until("nsqd answers", || {
            http::request(http, "GET", "/ping").is_some_and(|answer| answer.status == 200)
        });
        nsqd
    }

    fn create_channel(&self, topic: &str, channel: &str) {
        for target in [
            format!("/topic/create?topic={topic}"),
            format!("/channel/create?topic={topic}&channel={channel}"),
        ] {
            let created = http::request(self.http, "POST", &target).unwrap();
            assert_eq!(created.status, 200, "{target}: {}", created.body);
        }
    }
}

impl Drop for RealNsqd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

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
    let nsqd = RealNsqd::start(&program, folder.path(), &[&cluster.members[0]]);
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
    let nsqd = RealNsqd::start(&program, folder.path(), &members);
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
