//! Whom a conversation is held with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::cluster::Cluster;
use crate::support::{free_port, http, wait_for, wait_until};

/// The ports of one server, or of one member.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub tcp: u16,
    pub http: u16,
}

#[derive(Debug, Clone)]
pub enum Kind {
    OneMember,
    ThreeMembers,
    /// The real one, at this path.
    Nsqlookupd(PathBuf),
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Kind::OneMember => "one member",
            Kind::ThreeMembers => "three members",
            Kind::Nsqlookupd(_) => "nsqlookupd",
        }
    }
}

/// A server with an empty registry, or a cluster of three.
pub enum Servers {
    One(Box<Process>),
    Three(Cluster),
}

impl Servers {
    pub fn start(kind: &Kind, flags: &[String]) -> Servers {
        if matches!(kind, Kind::ThreeMembers) {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            return Servers::Three(Cluster::start(3, &flags));
        }
        let addresses = ["--tcp-address=<tcp>", "--http-address=<http>"];
        let addresses = addresses.iter().map(ToString::to_string);
        let flags: Vec<String> = addresses.chain(flags.iter().cloned()).collect();
        let process = Process::start(kind, &flags, "");
        process.wait_ready();
        Servers::One(Box::new(process))
    }

    pub fn ports(&self) -> Vec<Ports> {
        match self {
            Servers::One(process) => vec![process.ports],
            Servers::Three(cluster) => {
                let members = cluster.members.iter();
                let ports = members.map(|member| Ports {
                    tcp: member.tcp,
                    http: member.http,
                });
                ports.collect()
            }
        }
    }
}

/// One process of the program, with a folder of its own; killed when dropped.
pub struct Process {
    pub ports: Ports,
    command: Command,
    process: Child,
    folder: TempDir,
}

impl Process {
    /// In the flags and in the file, `<tcp>` and `<http>` are addresses that are free, and `<file>`
    /// is where the file is.
    pub fn start(kind: &Kind, flags: &[String], file: &str) -> Process {
        let folder = tempfile::tempdir().unwrap();
        let (tcp, http) = (free_port(), free_port());
        let file_path = folder.path().join("nsqlookupd.cfg");
        let fill = |text: &str| {
            text.replace("<tcp>", &format!("127.0.0.1:{tcp}"))
                .replace("<http>", &format!("127.0.0.1:{http}"))
                .replace("<file>", &file_path.display().to_string())
        };
        fs::write(&file_path, fill(file)).unwrap();
        let output = |name: &str| File::create(folder.path().join(name)).unwrap();
        let mut command = program(kind, folder.path());
        command
            .args(flags.iter().map(|flag| fill(flag)))
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"));
        Process {
            ports: Ports { tcp, http },
            process: command.spawn().unwrap(),
            command,
            folder,
        }
    }

    /// The same once more, after it has ended.
    pub fn start_again(&mut self) {
        self.wait_for_exit();
        self.process = self.command.spawn().unwrap();
        self.wait_ready();
    }

    pub fn wait_ready(&self) {
        wait_until("it answers", || {
            let answer = http::request(self.ports.http, "GET", "/topics");
            answer.is_some_and(|answer| answer.status == 200 && !answer.is_stale())
        });
    }

    pub fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let told = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(told.unwrap().success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    /// Its exit code, once it has ended.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        wait_for("the process ends", || self.process.try_wait().unwrap()).code()
    }

    /// What it has printed so far, to `stdout` or `stderr`.
    pub fn printed(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program with what it needs besides nsqlookupd's flags.
fn program(kind: &Kind, folder: &Path) -> Command {
    if let Kind::Nsqlookupd(path) = kind {
        return Command::new(path);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftlookupd"));
    let peer = format!("127.0.0.1:{}", free_port());
    command
        // Not as flags: the conversation's first word must be the first.
        .env("RAFTLOOKUPD_DATA_PATH", folder.join("data"))
        .env("RAFTLOOKUPD_PEER_ADDRESS", &peer)
        .env("RAFTLOOKUPD_PEER_BROADCAST_ADDRESS", &peer);
    command
}
