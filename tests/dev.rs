//! `raftlookupd dev`, as a user sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use support::{http, wait_for, wait_until};

/// A running `raftlookupd dev`.
struct Dev {
    process: Child,
    screen: PathBuf,
}

impl Dev {
    fn start(folder: &Path, base_port: u16) -> Dev {
        let screen = folder.join("screen");
        let process = Command::new(env!("CARGO_BIN_EXE_raftlookupd"))
            .arg("dev")
            .arg(format!("--base-port={base_port}"))
            .arg(format!("--data-path={}", folder.join("data").display()))
            .stdin(Stdio::null())
            .stdout(File::create(&screen).unwrap())
            .stderr(File::create(folder.join("stderr")).unwrap())
            .spawn();
        Dev {
            process: process.unwrap(),
            screen,
        }
    }

    fn shown(&self) -> String {
        std::fs::read_to_string(&self.screen).unwrap()
    }

    fn wait_for(&self, text: &str) {
        wait_until(text, || self.shown().contains(text));
    }

    /// From the table of members.
    fn pid(&self, member: &str) -> String {
        let shown = self.shown();
        let row = shown
            .lines()
            .find(|line| line.split_whitespace().next() == Some(member));
        row.unwrap().split_whitespace().nth(4).unwrap().to_string()
    }

    fn end(mut self, signal: &str) -> Option<i32> {
        kill(signal, &self.process.id().to_string());
        wait_for("dev ends", || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // The members end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn kill(signal: &str, pid: &str) {
    let status = Command::new("kill").args([signal, pid]).status();
    assert!(status.unwrap().success());
}

/// Below the ports that other tests use; each call has its own three of every hundred.
fn free_base_port() -> u16 {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    wait_for("nine free ports", || {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let base = 10_000 + (std::process::id() % 13) as u16 * 300 + call % 33 * 3;
        let members = [0, 100, 200].map(|member| base + member);
        let mut all = members.iter().flat_map(|port| *port..port + 3);
        all.all(free).then_some(base)
    })
}

fn nobody_listens(base_port: u16) -> bool {
    [1, 101, 201]
        .iter()
        .all(|http_port| http::request(base_port + http_port, "GET", "/ping").is_none())
}

#[test]
fn a_member_dies_and_is_started_by_the_printed_command() {
    let folder = tempfile::tempdir().unwrap();
    let base_port = free_base_port();
    let dev = Dev::start(folder.path(), base_port);
    dev.wait_for("==> ready: ");
    wait_until("the topic is created", || {
        let created = http::request(base_port + 201, "POST", "/topic/create?topic=orders");
        created.is_some_and(|created| created.status == 200)
    });

    kill("-9", &dev.pid("n2"));
    dev.wait_for("was killed by signal 9; to start it again");
    let shown = dev.shown();
    let command = shown.lines().find(|line| line.contains(" --name=n2 "));
    let mut by_hand = Command::new("sh")
        .args(["-c", &format!("exec {}", command.unwrap())])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    dev.wait_for("==> n2 is back");
    let topics = || http::request(base_port + 101, "GET", "/topics");
    wait_until("n2 knows the topic", || {
        topics().is_some_and(|answer| answer.body.contains("orders"))
    });

    let screen = dev.screen.clone();
    assert_eq!(dev.end("-TERM"), Some(0));
    let shown = std::fs::read_to_string(screen).unwrap();
    assert!(
        shown.contains("n2 was started by hand and still runs"),
        "{shown}"
    );
    kill("-TERM", &by_hand.id().to_string());
    assert_eq!(by_hand.wait().unwrap().code(), Some(0));
    assert!(nobody_listens(base_port));

    let again = Dev::start(folder.path(), base_port);
    again.wait_for("==> ready: ");
    wait_until("the topic is still there", || {
        topics().is_some_and(|answer| answer.body.contains("orders"))
    });
    assert_eq!(again.end("-INT"), Some(0));
}

#[test]
fn the_members_end_even_if_dev_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let base_port = free_base_port();
    let dev = Dev::start(folder.path(), base_port);
    dev.wait_for("==> ready: ");
    assert_eq!(dev.end("-KILL"), None);
    wait_until("the members end", || nobody_listens(base_port));
}

#[test]
fn a_taken_port_is_named_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let base_port = free_base_port();
    let _taken = TcpListener::bind(("127.0.0.1", base_port + 102)).unwrap();
    let mut dev = Dev::start(folder.path(), base_port);
    let status = wait_for("dev ends", || dev.process.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap();
    let text = format!("{} (n2 peers: address already in use)", base_port + 102);
    assert!(said.contains(&text), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(dev.shown(), "");
    assert!(!folder.path().join("data").exists());
}
