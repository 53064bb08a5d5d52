//! A member replaces a snapshot file that its disk has damaged, before it is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::path::{Path, PathBuf};

use support::member::Member;
use support::wait_until;

fn snapshots(data_path: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data_path.join("snapshots")).unwrap();
    let mut files: Vec<PathBuf> = files
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "snapshot")
        })
        .collect();
    files.sort();
    files
}

fn topics(member: &Member) -> usize {
    let answer = member.get("/topics").unwrap().json();
    answer["topics"].as_array().unwrap().len()
}

#[test]
fn a_damaged_newest_file_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut member = Member::new("a", folder.path());
    member.args = vec!["--snapshot-count=20".into()];
    member.start();
    member.wait_ready();
    for number in 0..80 {
        let created = member.post(&format!("/topic/create?topic=t{number}"));
        assert_eq!(created.unwrap().status, 200);
    }
    wait_until("there are two snapshots", || {
        snapshots(&member.data_path).len() == 2
    });
    member.kill();
    let newest = snapshots(&member.data_path).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, &bytes).unwrap();

    member.start();
    member.wait_ready();
    // It may have been taken at the same entry, if none has been applied since.
    wait_until("another snapshot is there", || {
        let newer = snapshots(&member.data_path).pop();
        newer.is_some_and(|newer| {
            newer >= newest && std::fs::read(newer).is_ok_and(|newer| newer != bytes)
        })
    });
    assert!(member.data_path.join("snapshots/damaged").exists());
    member.kill();
    std::fs::remove_dir_all(member.data_path.join("sled")).unwrap();
    member.start();
    member.wait_ready();
    assert_eq!(topics(&member), 80);
    assert_eq!(member.status().unwrap()["registry_rebuilt"], true);
    assert!(member.log().contains("rebuilt from snapshot and log"));
}
