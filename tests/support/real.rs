//! NSQ's own programs, where there are any: on `PATH`, or in the folder that `NSQ_BIN_DIR` names.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{free_port, http, wait_until};

/// Where the program is; says so if it is not to be found.
pub fn find(program: &str) -> Option<PathBuf> {
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

/// A real nsqd, nsqlookupd or nsqadmin; killed when dropped.
pub struct Real {
    process: Child,
    /// 0 of an nsqadmin.
    pub tcp: u16,
    pub http: u16,
}

impl Real {
    /// An nsqd that registers at these ports.
    pub fn nsqd(program: &Path, folder: &Path, lookupd_ports: &[u16]) -> Real {
        let data_path = format!("--data-path={}", folder.display());
        let lookupds = lookupd_ports
            .iter()
            .map(|port| format!("--lookupd-tcp-address=127.0.0.1:{port}"));
        Real::start(program, std::iter::once(data_path).chain(lookupds))
    }

    /// An nsqadmin of these lookupds.
    pub fn nsqadmin(program: &Path, lookupd_http_ports: &[u16]) -> Real {
        Real::run(program, (0, free_port()), lookupd_flags(lookupd_http_ports))
    }

    pub fn start(program: &Path, flags: impl IntoIterator<Item = String>) -> Real {
        Real::start_at(program, (free_port(), free_port()), flags)
    }

    /// The same at given ports for TCP and HTTP.
    pub fn start_at(
        program: &Path,
        ports: (u16, u16),
        flags: impl IntoIterator<Item = String>,
    ) -> Real {
        let own = [
            format!("--tcp-address=127.0.0.1:{}", ports.0),
            "--broadcast-address=127.0.0.1".to_string(),
        ];
        Real::run(program, ports, own.into_iter().chain(flags))
    }

    fn run(
        program: &Path,
        (tcp, http): (u16, u16),
        flags: impl IntoIterator<Item = String>,
    ) -> Real {
        let process = Command::new(program)
            .arg(format!("--http-address=127.0.0.1:{http}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let real = Real { process, tcp, http };
        wait_until("it answers", || {
            http::request(http, "GET", "/ping").is_some_and(|answer| answer.status == 200)
        });
        real
    }

    pub fn post(&self, target: &str) {
        let answer = http::request(self.http, "POST", target).unwrap();
        assert_eq!(answer.status, 200, "{target}: {}", answer.body);
    }

    pub fn create_channel(&self, topic: &str, channel: &str) {
        self.post(&format!("/topic/create?topic={topic}"));
        self.post(&format!("/channel/create?topic={topic}&channel={channel}"));
    }
}

/// What consumers and nsqadmin are told.
pub fn lookupd_flags(http_ports: &[u16]) -> Vec<String> {
    let flag = |port: &u16| format!("--lookupd-http-address=127.0.0.1:{port}");
    http_ports.iter().map(flag).collect()
}

/// Publishes at an nsqd.
pub fn publish(nsqd: &Real, topic: &str, message: &str) {
    let answer = http::send(nsqd.http, "POST", &format!("/pub?topic={topic}"), message);
    assert_eq!(answer.unwrap().status, 200);
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
