//! What cannot work says so in one clear line, and what is sent by strangers does no harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use support::cluster::Cluster;
use support::member::Member;
use support::wait_until;

/// The process ends with this code and a line that contains this text.
#[track_caller]
fn refuses(member: &mut Member, code: i32, text: &str) {
    let (exit, log) = member.run_to_its_end();
    assert_eq!(exit, Some(code), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    assert_eq!(lines.len(), 1, "{text:?} in:\n{log}");
}

#[test]
fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for which in ["tcp", "http", "peer"] {
        let mut member = Member::new(which, folder.path());
        match which {
            "tcp" => member.tcp = port,
            "http" => member.http = port,
            _ => member.peer = port,
        }
        refuses(&mut member, 1, &format!("listen (127.0.0.1:{port}) failed"));
        assert!(
            !member.data_path.exists(),
            "nothing is touched on disk before"
        );
    }
}

#[test]
fn an_unusable_data_path_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut member = Member::new("a", folder.path());
    std::fs::write(folder.path().join("file"), b"").unwrap();
    member.data_path = folder.path().join("file").join("data");
    let path = member.data_path.display().to_string();
    refuses(&mut member, 74, &path);
}

#[test]
fn a_data_path_in_use_is_refused() {
    let cluster = Cluster::start(1, &[]);
    let folder = tempfile::tempdir().unwrap();
    let mut second = Member::new("a", folder.path());
    second.data_path.clone_from(&cluster.members[0].data_path);
    refuses(&mut second, 74, "is in use by another process");
    cluster.members[0].wait_ready();
}

#[test]
fn data_of_another_member_is_refused() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.members[0].kill();
    cluster.members[1].kill();
    let path = cluster.members[1].data_path.clone();
    cluster.members[0].data_path = path;
    refuses(
        &mut cluster.members[0],
        1,
        r#"holds the data of member "b""#,
    );
}

#[test]
fn members_of_two_clusters_refuse_each_other() {
    let mut one = Cluster::start(3, &[]);
    let mut other = Cluster::start(3, &[]);
    // A member of the other cluster takes over the address of one of ours.
    one.members[2].kill();
    other.members[2].kill();
    other.members[2].peer = one.members[2].peer;
    other.members[2].start();
    wait_until("somebody says so", || {
        let said = "different clusters";
        one.members[..2]
            .iter()
            .any(|member| member.log().contains(said))
            && other.members[2].log().contains(said)
    });
    let mut nsqd = one.members[0].nsqd("h1");
    nsqd.registered("orders", "");
    assert_eq!(one.members[1].lookup("orders").unwrap(), ["h1"]);
}

#[test]
fn different_member_lists_are_refused() {
    let mut cluster = Cluster::prepare(3, &[]);
    let shorter = format!(
        "--initial-cluster=a=127.0.0.1:{},b=127.0.0.1:{}",
        cluster.members[0].peer, cluster.members[1].peer
    );
    *cluster.members[1].args.last_mut().unwrap() = shorter;
    cluster.members[1].start();
    cluster.members[0].start();
    // Whoever asks the other first ends; the other waits for it to come back with a better list.
    wait_until("one of the two ends and says why", || {
        cluster.members[..2].iter_mut().any(|member| {
            !member.is_running() && member.log().contains("was started with another list")
        })
    });
}

#[test]
fn a_living_member_is_not_replaced_by_one_of_its_name() {
    let cluster = Cluster::start(3, &[]);
    let mut nsqd = cluster.members[1].nsqd("h1");
    nsqd.registered("orders", "");
    let folder = tempfile::tempdir().unwrap();
    let mut double = Member::new("b", folder.path());
    double.args.clone_from(&cluster.members[1].args);
    refuses(&mut double, 1, "a member called b is alive");
    assert_eq!(cluster.members[0].lookup("orders").unwrap(), ["h1"]);
}

#[test]
fn one_wrong_address_does_not_lead_into_another_cluster() {
    let cluster = Cluster::start(3, &[]);
    let folder = tempfile::tempdir().unwrap();
    let mut stranger = Member::new("c", folder.path());
    let other = Member::new("a", folder.path());
    let prod = &cluster.members;
    for (list, said) in [
        (
            format!("a=127.0.0.1:{},b=127.0.0.1:{}", other.peer, prod[0].peer),
            "the address of b leads to a member called a",
        ),
        (
            format!("a=127.0.0.1:{},b=127.0.0.1:{}", other.peer, prod[1].peer),
            "a is at",
        ),
    ] {
        stranger.args = vec![format!(
            "--initial-cluster={list},c=127.0.0.1:{}",
            stranger.peer
        )];
        refuses(&mut stranger, 1, said);
    }
    let status = prod[0].status().unwrap();
    assert_eq!(status["members"].as_array().unwrap().len(), 3, "{status}");
    assert_eq!(status["members"][2]["id"], 3, "{status}");
}

#[test]
fn a_log_without_its_identity_is_refused() {
    let mut cluster = Cluster::start(1, &[]);
    let member = &mut cluster.members[0];
    assert_eq!(member.terminate(), Some(0));
    std::fs::remove_file(member.data_path.join("identity")).unwrap();
    refuses(member, 74, "its identity is missing");
}

#[test]
fn a_damaged_log_is_refused_and_damaged_tables_are_rebuilt() {
    let mut cluster = Cluster::start(1, &["--snapshot-count=50"]);
    let mut nsqd = cluster.members[0].nsqd("h1");
    for number in 0..200 {
        nsqd.registered(&format!("t{number}"), "");
    }
    // What was written in the last second before a crash is not covered by the durable mark.
    let member = &mut cluster.members[0];
    assert_eq!(member.terminate(), Some(0));
    let files = files_below(&member.data_path);
    let (log, good) = damage(&member.data_path.join("log"));
    let (code, lines) = member.run_to_its_end();
    assert_eq!(code, Some(74), "{lines}");
    assert!(lines.contains("damaged"), "{lines}");
    assert!(!lines.contains("panicked"), "{lines}");
    assert_eq!(files_below(&member.data_path), files, "nothing is deleted");
    std::fs::write(&log, &good).unwrap();

    damage(&member.data_path.join("sled"));
    member.start();
    for number in [0, 100, 199] {
        let path = format!("/channels?topic=t{number}");
        wait_until("the registry is there", || {
            member.get(&path).is_some_and(|answer| answer.status == 200)
        });
    }
    assert!(member.log().contains("rebuilt"), "{}", member.log());
    let kept = files_below(&member.data_path.join("sled.damaged"));
    assert!(!kept.is_empty(), "what was set aside");
}

/// Clears the middle of the largest file; returns it, and what was in it.
fn damage(folder: &std::path::Path) -> (std::path::PathBuf, Vec<u8>) {
    let files = files_below(folder);
    let length = |file: &std::path::PathBuf| file.metadata().unwrap().len();
    let largest = files.into_iter().max_by_key(length).unwrap();
    let good = std::fs::read(&largest).unwrap();
    // Behind what is in use there are zeros.
    let used = 1 + good.iter().rposition(|byte| *byte != 0).unwrap();
    let mut damaged = good.clone();
    damaged[used / 4..used * 3 / 4].fill(0);
    std::fs::write(&largest, &damaged).unwrap();
    (largest, good)
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn garbage_on_any_port_does_no_harm() {
    let mut cluster = Cluster::start(1, &[]);
    let member = &cluster.members[0];
    let noise: Vec<u8> = (0..1_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let endless_line = [b"  V1".as_slice(), &vec![b'a'; 4_000_000]].concat();
    let endless_header = [b"GET /".as_slice(), &vec![b'a'; 4_000_000]].concat();
    let forged_length = [b"  V1IDENTIFY\n".as_slice(), &u32::MAX.to_be_bytes()].concat();
    let huge_length = [b"  V1IDENTIFY\n".as_slice(), &i32::MAX.to_be_bytes()].concat();
    let binary_post = [
        b"POST /raft/vote HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".as_slice(),
        &noise,
    ]
    .concat();
    for port in [member.tcp, member.http, member.peer] {
        for bytes in [
            &noise,
            &endless_line,
            &endless_header,
            &forged_length,
            &huge_length,
            &binary_post,
        ] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream
                .set_read_timeout(Some(std::time::Duration::from_secs(10)))
                .unwrap();
            // The member may close at any time.
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer);
            let gave_up = read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!gave_up, "neither an answer nor a close");
        }
    }
    let log = member.log();
    assert!(!log.contains("panicked"), "{log}");
    let mut nsqd = member.nsqd("h1");
    nsqd.registered("orders", "");
    assert!(cluster.members[0].is_running());
}

#[test]
fn a_crowd_waits_until_others_leave() {
    let folder = tempfile::tempdir().unwrap();
    let mut member = Member::new("a", folder.path());
    member.prelude = "ulimit -n 80".into();
    member.start();
    member.wait_ready();
    let most = metric(&member, "nsqlookup_connections_most{kind=\"tcp\"}");
    assert!((1..80).contains(&most), "{most}");
    let connect = || TcpStream::connect(("127.0.0.1", member.tcp)).unwrap();
    let crowd: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    wait_until("all connections are taken", || {
        metric(&member, "nsqlookup_connections{kind=\"tcp\"}") == most
    });
    assert_eq!(member.get("/topics").unwrap().status, 200);

    drop(crowd);
    let mut nsqd = member.nsqd("h1");
    nsqd.registered("orders", "");
    assert_eq!(member.lookup("orders").unwrap(), ["h1"]);
    let log = member.log();
    let said = log
        .matches("WARNING: TCP: no more connections are served")
        .count();
    assert_eq!(said, 1, "{log}");
}

fn metric(member: &Member, name: &str) -> usize {
    let text = member.get("/metrics").unwrap().body;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.trim().parse().unwrap()
}

#[test]
fn nobody_need_read_the_log() {
    let folder = tempfile::tempdir().unwrap();
    for prelude in ["exec 2>&-", "exec 2>/dev/full"] {
        let mut member = Member::new("a", folder.path());
        member.prelude = prelude.into();
        member.start();
        member.wait_ready();
        member.nsqd("h1").registered("orders", "");
        assert_eq!(member.terminate(), Some(0), "{prelude}");
    }
}

#[test]
fn a_log_that_is_not_read_stops_nothing() {
    let mut cluster = Cluster::start(1, &[]);
    let member = &mut cluster.members[0];
    assert_eq!(member.terminate(), Some(0));
    // It holds both ends of the pipe.
    let pipe = member.data_path.with_extension("pipe");
    member.prelude = format!("mkfifo {0}; exec 9<>{0} 2>&9", pipe.display());
    member.start();
    member.wait_ready();
    // Each is a line, and a pipe holds 64 KiB.
    for _ in 0..1000 {
        member.get("/lookup?topic=unknown").unwrap();
    }
    member.nsqd("h1").registered("orders", "");
    assert_eq!(metric(member, "nsqlookup_log_lines_lost"), 0);
    assert_eq!(member.terminate(), Some(0));
}

#[test]
fn a_full_disk_ends_the_member_with_one_plain_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut member = Member::new("a", folder.path());
    // As long as files can be; the signal that comes with it is not what a full disk sends.
    member.prelude = "trap '' XFSZ; ulimit -f 4096".into();
    member.start();
    member.wait_ready();
    let mut nsqd = member.nsqd("h1");
    let mut number = 0;
    while nsqd
        .register(&format!("t{number}-{:050}", number), "")
        .is_ok()
    {
        number += 1;
    }
    assert_eq!(member.wait_for_exit(), Some(74), "{}", member.log());
    let log = member.log();
    let last: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" FATAL: "))
        .collect();
    assert_eq!(last.len(), 1, "{log}");
    let (_, text) = last[0].split_once(" FATAL: ").unwrap();
    assert!(
        text.starts_with("cannot continue: the store failed: cannot "),
        "{text}"
    );
    assert!(text.contains("File too large"), "{text}");
}

#[test]
fn who_is_missing_is_named_with_the_reason() {
    let mut cluster = Cluster::prepare(3, &[]);
    cluster.members[0].start();
    let (b, c) = (cluster.members[1].peer, cluster.members[2].peer);
    let said = format!(
        "missing=\"b at 127.0.0.1:{b}: connection refused, c at 127.0.0.1:{c}: connection refused\""
    );
    wait_until("it says who is missing", || {
        cluster.members[0].log().contains(&said)
    });
}

#[test]
fn settings_that_do_not_fit_are_bad_values_like_others() {
    let folder = tempfile::tempdir().unwrap();
    for (flags, text) in [
        (
            &["--heartbeat-interval=0"][..],
            "invalid value \"0s\" for heartbeat-interval: must be at least 1ms",
        ),
        (
            &["--heartbeat-interval=1s"],
            "shorter than the shortest election-timeout, 300ms",
        ),
        (
            &["--heartbeat-interval=soon"],
            "invalid value \"soon\" for flag -heartbeat-interval: parse error",
        ),
        (
            &["--election-timeout=600ms..300ms"],
            "invalid value \"600ms..300ms\" for flag -election-timeout: the first must be",
        ),
        (
            &["--initial-cluster=x=h:1"],
            "invalid value \"a\" for name: must be a name that initial-cluster lists: x",
        ),
    ] {
        let mut member = Member::new("a", folder.path());
        member.args = flags.iter().map(ToString::to_string).collect();
        refuses(&mut member, 2, text);
    }
}
