//! One member process: started, killed, restarted, wiped.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::http::{self, Answer};
use super::nsqd::Nsqd;
use super::{free_port, wait_for, wait_until};

/// Where a member listens and what it is started with; survives its processes.
pub struct Member {
    pub name: String,
    pub tcp: u16,
    pub http: u16,
    /// 0: it is not told where to listen for others.
    pub peer: u16,
    pub data_path: PathBuf,
    pub args: Vec<String>,
    /// What the shell that becomes the member does before, such as `ulimit -n 64`.
    pub prelude: String,
    log: PathBuf,
    process: Option<Child>,
}

impl Member {
    /// A member that keeps its data and its log in this folder; not started yet.
    pub fn new(name: &str, folder: &Path) -> Member {
        Member {
            name: name.to_string(),
            tcp: free_port(),
            http: free_port(),
            peer: free_port(),
            data_path: folder.join(format!("{name}.data")),
            args: Vec::new(),
            prelude: String::from(":"),
            log: folder.join(format!("{name}.log")),
            process: None,
        }
    }

    /// As `--initial-cluster` lists it.
    pub fn listed(&self) -> String {
        format!("{}=127.0.0.1:{}", self.name, self.peer)
    }

    /// The command line, without the program.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--name={}", self.name),
            format!("--data-path={}", self.data_path.display()),
            format!("--tcp-address=127.0.0.1:{}", self.tcp),
            format!("--http-address=127.0.0.1:{}", self.http),
            "--broadcast-address=127.0.0.1".to_string(),
        ];
        if self.peer != 0 {
            flags.push(format!("--peer-address=127.0.0.1:{}", self.peer));
            flags.push(format!("--peer-broadcast-address=127.0.0.1:{}", self.peer));
        }
        flags.extend(self.args.clone());
        flags
    }

    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        self.spawn(log.unwrap());
    }

    fn spawn(&mut self, log: File) {
        let mut process = Command::new("sh");
        // Cargo sets those of the build.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("RAFTLOOKUPD_") {
                process.env_remove(variable);
            }
        }
        let process = process
            .args(["-c", &format!("{}; exec \"$0\" \"$@\"", self.prelude)])
            .arg(env!("CARGO_BIN_EXE_raftlookupd"))
            .args(self.flags())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// Starts a process that is expected to end by itself; its exit code and what it printed.
    pub fn run_to_its_end(&mut self) -> (Option<i32>, String) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.spawn(File::create(&self.log).unwrap());
        let code = self.wait_for_exit();
        (code, self.log())
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// SIGTERM; returns the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = self.pid()?.to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.unwrap().success());
        self.wait_for_exit()
    }

    /// Waits for the process to end by itself.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let process = self.process.as_mut()?;
        let status = wait_for("the process ends", || process.try_wait().unwrap());
        self.process = None;
        status.code()
    }

    pub fn is_running(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Removes everything the member remembers.
    pub fn wipe(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.data_path).unwrap();
    }

    /// Copies everything that the member remembers into a new folder beside it.
    pub fn copy_data(&self, name: &str) -> PathBuf {
        let copy = self.data_path.with_file_name(name);
        copy_folder(&self.data_path, &copy);
        copy
    }

    /// Puts the data path back to a copy.
    pub fn restore(&mut self, copy: &Path) {
        self.wipe();
        copy_folder(copy, &self.data_path);
    }

    /// A member with the same flags at other ports, on this data path: a clone on another machine.
    pub fn clone_on(&self, data_path: &Path) -> Member {
        let folder = self.data_path.parent().unwrap();
        let mut clone = Member::new(&self.name, folder);
        clone.data_path = data_path.to_path_buf();
        clone.log = data_path.with_extension("log");
        clone.args.clone_from(&self.args);
        clone
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn get(&self, target: &str) -> Option<Answer> {
        http::request(self.http, "GET", target)
    }

    pub fn post(&self, target: &str) -> Option<Answer> {
        http::request(self.http, "POST", target)
    }

    /// /cluster/status, once the member has loaded.
    pub fn status(&self) -> Option<serde_json::Value> {
        let answer = self.get("/cluster/status")?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Waits until the member answers default lookups with a quorum behind it.
    pub fn wait_ready(&self) {
        wait_until(&format!("{} answers", self.name), || {
            self.get("/topics?consistency=linearizable")
                .is_some_and(|answer| answer.status == 200)
        });
    }

    pub fn nsqd(&self, host: &str) -> Nsqd {
        Nsqd::identified(self.tcp, host).unwrap()
    }

    /// The broadcast addresses listed for a topic, sorted; `None` unless the answer is a 200.
    pub fn lookup(&self, topic: &str) -> Option<Vec<String>> {
        let answer = self.get(&format!("/lookup?topic={topic}"))?;
        (answer.status == 200).then(|| {
            let json = answer.json();
            let producers = json["producers"].as_array().unwrap();
            let mut hosts: Vec<String> = producers
                .iter()
                .map(|producer| producer["broadcast_address"].as_str().unwrap().into())
                .collect();
            hosts.sort();
            hosts
        })
    }
}

fn copy_folder(from: &Path, to: &Path) {
    // Files that disappear meanwhile, as temporary ones do, are none of the copy.
    let copied = Command::new("cp").arg("-r").args([from, to]).output();
    assert!(copied.is_ok() && to.is_dir(), "cp -r");
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}
