//! Real consumers, where there are any: they find every nsqd through whichever members live.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::cluster::Cluster;
use support::real::{Real, find, lookupd_flags, publish};
use support::{http, wait_until};

/// A program of NSQ's that consumes; killed when dropped.
struct Consumer(Child);

impl Consumer {
    fn start(program: &Path, flags: Vec<String>, output: &Path) -> Consumer {
        let process = Command::new(program)
            .args([
                "--topic=orders",
                "--consumer-opt=lookupd_poll_interval,100ms",
            ])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(File::create(output).unwrap())
            .stderr(Stdio::null())
            .spawn();
        Consumer(process.unwrap())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether so many consumers have made their channels, so that they miss nothing.
fn has_channels(nsqd: &Real, number: usize) -> bool {
    let stats = http::request(nsqd.http, "GET", "/stats?format=json&topic=orders");
    let stats = stats.unwrap().json();
    let channels = stats["topics"][0]["channels"].as_array();
    channels.is_some_and(|channels| channels.len() == number)
}

/// All that was written to a folder.
fn written(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap();
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    texts.collect()
}

#[test]
fn consumers_find_old_and_new_nsqds_while_a_member_dies() {
    let (Some(nsqd), Some(nsq_tail)) = (find("nsqd"), find("nsq_tail")) else {
        return;
    };
    let Some(nsq_to_file) = find("nsq_to_file") else {
        return;
    };
    let mut cluster = Cluster::start(3, &[]);
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let place = folder.path().join(name);
        fs::create_dir(&place).unwrap();
        place
    };
    let tcp: Vec<u16> = cluster.members.iter().map(|member| member.tcp).collect();
    let http: Vec<u16> = cluster.members.iter().map(|member| member.http).collect();
    let first = Real::nsqd(&nsqd, &place("first"), &tcp);
    first.post("/topic/create?topic=orders");

    let tailed = folder.path().join("tailed");
    let _tail = Consumer::start(&nsq_tail, lookupd_flags(&http), &tailed);
    let archive = place("archive");
    let mut flags = lookupd_flags(&http);
    flags.push("--channel=archive".into());
    flags.push(format!("--output-dir={}", archive.display()));
    flags.push("--sync-interval=100ms".into());
    let _to_file = Consumer::start(&nsq_to_file, flags, &folder.path().join("to_file"));
    wait_until("both have found the nsqd", || has_channels(&first, 2));
    publish(&first, "orders", "before");

    let leader = cluster.leader();
    cluster.members[leader].kill();
    publish(&first, "orders", "during");
    // A new one, known to the survivors only.
    let survivors = cluster.members.iter().enumerate();
    let survivors = survivors.filter(|(number, _)| *number != leader);
    let survivors: Vec<u16> = survivors.map(|(_, member)| member.tcp).collect();
    let second = Real::nsqd(&nsqd, &place("second"), &survivors);
    second.post("/topic/create?topic=orders");
    wait_until("both have found the new nsqd", || has_channels(&second, 2));
    publish(&second, "orders", "after");

    for message in ["before", "during", "after"] {
        wait_until(&format!("nsq_tail has `{message}`"), || {
            fs::read_to_string(&tailed).unwrap().contains(message)
        });
        wait_until(&format!("nsq_to_file has `{message}`"), || {
            written(&archive).contains(message)
        });
    }
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
