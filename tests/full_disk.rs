//! A disk that runs full costs nothing: the member is read-only in time, and restarts do no harm.
//!
//! Needs the right to mount a small file system; without it the test says so and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use support::member::Member;
use support::{wait_for, wait_until};
use tempfile::TempDir;

/// Without a flag, a twentieth of it is left free.
const DISK_BYTES: u64 = 60 << 20;

/// A file system in memory, unmounted at the end.
struct SmallDisk {
    folder: PathBuf,
    _parent: TempDir,
}

impl SmallDisk {
    /// `None` where this process may not mount any.
    fn mount() -> Option<SmallDisk> {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("disk");
        std::fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"])
            .arg(&folder)
            .output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(SmallDisk {
            folder,
            _parent: parent,
        })
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Fills the disk until no more than this is free.
    fn fill(&self, left: u64) {
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        let stat = || {
            let stat = rustix::fs::statvfs(&self.folder).unwrap();
            stat.f_bavail * stat.f_frsize
        };
        while stat() > left {
            let bytes = (stat() - left).min(1 << 20);
            if filler.write_all(&vec![1; bytes as usize]).is_err() {
                return;
            }
        }
    }

    fn give_space_back(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

fn topics(member: &Member) -> Option<usize> {
    let answer = member.get("/topics")?;
    (answer.status == 200).then(|| answer.json()["topics"].as_array().map_or(0, Vec::len))
}

#[test]
fn a_member_whose_disk_fills_is_read_only_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: a small file system cannot be mounted here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut member = Member::new("a", folder.path());
    member.data_path = disk.folder.join("data");
    member.args = vec!["--snapshot-count=50".into()];
    member.start();
    member.wait_ready();
    for number in 0..120 {
        let created = member.post(&format!("/topic/create?topic=t{number}"));
        assert_eq!(created.unwrap().status, 200);
    }

    disk.fill(2 << 20);
    let status = |member: &Member, field: &str| member.status().unwrap()[field].clone();
    wait_until("the member is read-only", || {
        status(&member, "read_only") == true
    });
    let refused = member.post("/topic/create?topic=more").unwrap();
    assert_eq!(
        (refused.status, refused.body.as_str()),
        (503, r#"{"message":"DISK_FULL"}"#)
    );
    let mut nsqd = member.nsqd("h1");
    let answer = nsqd.register("more", "").unwrap();
    assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
    let deleted = member.post("/topic/delete?topic=t0").unwrap();
    assert_eq!(deleted.status, 200, "a delete frees space: {deleted:?}");
    let metrics = member.get("/metrics").unwrap().body;
    assert!(metrics.lines().any(|line| line == "nsqlookup_read_only 1"));
    assert!(member.log().contains("disk almost full"));

    disk.fill(0);
    for _ in 0..4 {
        member.kill();
        member.start();
        wait_for("the member answers or ends", || {
            (topics(&member) == Some(119) || !member.is_running()).then_some(())
        });
    }
    member.kill();
    disk.give_space_back();
    member.start();
    member.wait_ready();
    assert_eq!(topics(&member), Some(119));
    wait_until("the member is writable", || {
        status(&member, "read_only") == false
    });
    assert_eq!(status(&member, "registry_rebuilt"), false);
    let mut nsqd = member.nsqd("h1");
    nsqd.registered("more", "");

    // Without a restart, too.
    disk.fill(2 << 20);
    wait_until("the member is read-only", || {
        status(&member, "read_only") == true
    });
    disk.give_space_back();
    wait_until("the member is writable", || {
        status(&member, "read_only") == false
    });
    assert_eq!(nsqd.register("once-more", "").unwrap(), "OK");
}
