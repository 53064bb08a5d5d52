//! Consumers that are programs of their own, and what all of them must live through.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::cluster::Cluster;
use super::real::{Real, publish};
use super::{http, wait_until};

/// A program that consumes; killed when dropped.
pub struct Consumer {
    process: Child,
    folder: PathBuf,
    errors: PathBuf,
}

impl Consumer {
    /// Starts it with a new folder for what it prints, and for what it writes if it is told so.
    pub fn start(command: &mut Command, folder: PathBuf) -> Consumer {
        fs::create_dir(&folder).unwrap();
        let errors = folder.with_extension("errors");
        let process = command
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("printed")).unwrap())
            .stderr(File::create(&errors).unwrap())
            .spawn();
        Consumer {
            process: process.unwrap(),
            folder,
            errors,
        }
    }

    /// Whether the message is a line of what it printed or wrote.
    fn has(&self, message: &str) -> bool {
        fs::read_dir(&self.folder).unwrap().any(|file| {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            text.lines().any(|line| line == message)
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let errors = fs::read_to_string(&self.errors).unwrap_or_default();
            eprintln!("--- {}\n{errors}", self.errors.display());
        }
    }
}

/// What consumers are started with.
pub struct Setting<'a> {
    /// For folders of theirs.
    pub folder: &'a Path,
    /// The HTTP ports of all members; one of them will be killed.
    pub members: Vec<u16>,
    /// That of a member that stays.
    pub survivor: u16,
}

/// Consumers of `orders`, each with a channel of its own, find an nsqd, and another one that came
/// after a member was killed; they get every message. Each nsqd registers at one member, and not
/// at the one that `Setting::survivor` is.
pub fn find_old_and_new_nsqds(nsqd: &Path, start: impl FnOnce(&Setting) -> Vec<Consumer>) {
    let mut cluster = Cluster::start(3, &[]);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let place = folder.path().join(name);
        fs::create_dir(&place).unwrap();
        place
    };
    let victim = cluster.leader();
    let [told, other] = [(victim + 1) % 3, (victim + 2) % 3];
    let first = Real::nsqd(nsqd, &place("first"), &[cluster.members[victim].tcp]);
    first.post("/topic/create?topic=orders");
    let consumers = start(&Setting {
        folder: folder.path(),
        members: cluster.members.iter().map(|member| member.http).collect(),
        survivor: cluster.members[told].http,
    });
    let found_by_all = |nsqd: &Real| channels(nsqd) == consumers.len();
    wait_until("all have found the nsqd", || found_by_all(&first));
    publish(&first, "orders", "before");

    cluster.members[victim].kill();
    publish(&first, "orders", "during");
    let second = Real::nsqd(nsqd, &place("second"), &[cluster.members[other].tcp]);
    second.post("/topic/create?topic=orders");
    wait_until("all have found the new nsqd", || found_by_all(&second));
    publish(&second, "orders", "after");

    for message in ["before", "during", "after"] {
        wait_until(&format!("all have `{message}`"), || {
            consumers.iter().all(|consumer| consumer.has(message))
        });
    }
}

/// How many consumers have made their channels, so that they miss nothing.
fn channels(nsqd: &Real) -> usize {
    let stats = http::request(nsqd.http, "GET", "/stats?format=json&topic=orders");
    let stats = stats.unwrap().json();
    let channels = stats["topics"][0]["channels"].as_array();
    channels.map_or(0, Vec::len)
}
