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

/// A real nsqd or nsqlookupd; killed when dropped.
pub struct Real {
    process: Child,
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

    pub fn start(program: &Path, flags: impl IntoIterator<Item = String>) -> Real {
        let (tcp, http) = (free_port(), free_port());
        let process = Command::new(program)
            .arg(format!("--tcp-address=127.0.0.1:{tcp}"))
            .arg(format!("--http-address=127.0.0.1:{http}"))
            .arg("--broadcast-address=127.0.0.1")
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

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
