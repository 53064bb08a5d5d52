//! Real consumers, where there are any: they find every nsqd through whichever members live.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::process::Command;

use support::cluster::Cluster;
use support::consumer::{Consumer, find_old_and_new_nsqds};
use support::real::{Real, find, lookupd_flags, publish};
use support::wait_until;

#[test]
fn consumers_find_old_and_new_nsqds_while_a_member_dies() {
    let (Some(nsqd), Some(nsq_tail)) = (find("nsqd"), find("nsq_tail")) else {
        return;
    };
    let Some(nsq_to_file) = find("nsq_to_file") else {
        return;
    };
    find_old_and_new_nsqds(&nsqd, |setting| {
        let lookups = lookupd_flags(&setting.members);
        let often = "--consumer-opt=lookupd_poll_interval,100ms";
        let mut tail = Command::new(nsq_tail);
        tail.args(["--topic=orders", often]).args(&lookups);
        let archive = setting.folder.join("archive");
        let mut to_file = Command::new(nsq_to_file);
        to_file
            .args(["--topic=orders", "--channel=archive", often])
            .arg(format!("--output-dir={}", archive.display()))
            .arg("--sync-interval=100ms")
            .args(&lookups);
        vec![
            Consumer::start(&mut tail, setting.folder.join("tail")),
            Consumer::start(&mut to_file, archive),
        ]
    });
}

#[test]
fn nsq_stat_finds_the_channel() {
    let (Some(nsqd), Some(nsq_stat)) = (find("nsqd"), find("nsq_stat")) else {
        return;
    };
    let cluster = Cluster::start(3, &[]);
    let folder = tempfile::tempdir().unwrap();
    let nsqd = Real::nsqd(&nsqd, folder.path(), &[cluster.members[0].tcp]);
    nsqd.create_channel("orders", "billing");
    for message in 0..7 {
        publish(&nsqd, "orders", &message.to_string());
    }
    wait_until("the last member lists it", || {
        cluster.members[2].lookup("orders") == Some(vec!["127.0.0.1".into()])
    });
    let stat = Command::new(&nsq_stat)
        .args(["--topic=orders", "--channel=billing"])
        .args(["--interval=100ms", "--count=1"])
        .args(lookupd_flags(&[cluster.members[2].http]))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&stat.stdout);
    let row = text.lines().last().unwrap_or_default();
    assert!(row.split_whitespace().any(|word| word == "7"), "{text}");
}
