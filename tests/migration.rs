//! `raftlookupd import` and `raftlookupd diff`, as an operator uses them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use support::cluster::Cluster;
use support::member::Member;
use support::real::{Real, find};
use support::{free_port, http, scripted, wait_until};

/// How a command ended.
struct Ran {
    code: Option<i32>,
    /// Standard output, sorted: an import prints in the order in which things get done.
    lines: Vec<String>,
    stderr: String,
}

fn run(words: &[&str]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_raftlookupd"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<String> = stdout.lines().map(ToString::to_string).collect();
    lines.sort();
    Ran {
        code: output.status.code(),
        lines,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A cluster of one, whose tombstones last.
fn single(name: &str, folder: &Path) -> Member {
    let mut member = Member::new(name, folder);
    member.args.push("--tombstone-lifetime=1h".into());
    member.start();
    member.wait_ready();
    member
}

fn post(member: &Member, target: &str) {
    assert_eq!(member.post(target).unwrap().status, 200, "{target}");
}

#[test]
fn an_import_brings_what_is_missing_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| single(name, folder.path()));
    let (from, to) = (url(old.http), url(new.http));
    let mut both = [old.nsqd("both"), new.nsqd("both")];
    both.iter_mut()
        .for_each(|nsqd| nsqd.registered("orders", "billing"));
    let mut only_old = old.nsqd("gone");
    only_old.registered("orders", "audit");
    only_old.registered("live#ephemeral", "");
    post(&old, "/channel/create?topic=archive&channel=reader");
    post(&old, "/topic/tombstone?topic=orders&node=both:4151");
    post(&old, "/topic/tombstone?topic=orders&node=gone:4151");
    post(&new, "/topic/create?topic=fresh");

    let diff = || run(&["diff", "--from", &from, "--to", &to]);
    let before = diff();
    assert_eq!(before.code, Some(1), "{}", before.stderr);
    let there = |what: &str| format!("only at {from}: {what}");
    let remain = [
        there("producer live#ephemeral gone:4150"),
        there("producer orders gone:4150"),
        "only here: topic fresh".into(),
    ];
    let mut expected = vec![
        there("channel archive/reader"),
        there("channel orders/audit"),
        there("tombstone orders both:4150"),
        there("topic archive"),
    ];
    expected.extend(remain.clone());
    expected.sort();
    assert_eq!(before.lines, expected);

    let steps = [
        "+ channel archive/reader",
        "+ channel orders/audit",
        "+ tombstone orders both:4150",
        "+ topic archive",
    ];
    let remarks = [
        "already there: topics 1, channels 1, tombstones 0",
        "skipped: #ephemeral names 1, which go with their last claim",
        "skipped: tombstones 1, which have no effect until their nsqds register with the cluster",
    ];
    let dry_run = run(&["import", "-from", &from, "-to", &to, "-dry-run"]);
    let title = "to be imported: topics 1, channels 2, tombstones 1";
    let expected = [&steps[..], &remarks, &[title]].concat();
    assert_eq!(dry_run.lines, expected, "{}", dry_run.stderr);
    assert_eq!(dry_run.code, Some(0));
    assert_eq!(diff().lines, before.lines, "a dry run changes nothing");

    let import = || run(&["import", &format!("--from={from}"), &format!("--to={to}")]);
    let first = import();
    let title = "imported: topics 1, channels 2, tombstones 1";
    let mut expected = [&steps[..], &[title], &remarks].concat();
    expected.sort_unstable();
    assert_eq!(first.lines, expected, "{}", first.stderr);
    assert_eq!((first.code, first.stderr.as_str()), (Some(0), ""));
    assert_eq!(new.lookup("orders"), Some(vec![]), "the tombstone hides it");

    let again = import();
    let expected = [
        "already there: topics 2, channels 3, tombstones 1",
        "imported: topics 0, channels 0, tombstones 0",
        remarks[1],
        remarks[2],
    ];
    assert_eq!(
        (again.code, &again.lines[..]),
        (Some(0), &expected.map(String::from)[..])
    );
    assert_eq!(diff().lines, {
        let mut remain = remain.to_vec();
        remain.sort();
        remain
    });

    only_old.leave();
    post(&new, "/topic/delete?topic=fresh");
    let after = diff();
    assert_eq!((after.code, after.lines), (Some(0), vec![]));
    assert!(
        after.stderr.contains("no difference: topics 2, channels 3"),
        "{}",
        after.stderr
    );
}

#[test]
fn several_nsqlookupds_count_as_one_and_any_member_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| single(name, folder.path()));
    post(&one, "/channel/create?topic=t&channel=x");
    post(&two, "/channel/create?topic=t&channel=y");
    let mut cluster = Cluster::start(3, &[]);
    cluster.members[0].kill();
    let from = format!("{},{}", url(one.http), url(two.http));
    let to: Vec<String> = cluster
        .members
        .iter()
        .map(|member| url(member.http))
        .collect();
    let to = to.join(",");

    let before = run(&["diff", "--from", &from, "--to", &to]);
    let mut expected = [
        format!("only at {}: channel t/x", url(one.http)),
        format!("only at {}: channel t/y", url(two.http)),
        format!("only at {from}: topic t"),
    ];
    expected.sort();
    assert_eq!(before.lines, expected, "{}", before.stderr);
    let import = run(&["import", "--from", &from, "--to", &to]);
    assert_eq!(import.code, Some(0), "{}", import.stderr);
    let after = run(&["diff", "--from", &from, "--to", &to]);
    assert_eq!((after.code, after.lines), (Some(0), vec![]));
}

#[test]
fn trouble_is_one_line_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let member = single("there", folder.path());
    let there = url(member.http);
    let dead = url(free_port());
    for (words, code, text) in [
        (["import", &there, &dead], 1, format!("{dead}/ping: ")),
        (["import", &dead, &there], 1, format!("{dead}/ping: ")),
        (["diff", &there, &dead], 2, format!("{dead}/ping: ")),
        (
            ["import", "https://x:1", &dead],
            2,
            "https is not supported".into(),
        ),
        (
            ["diff", "nonsense", &dead],
            2,
            "'nonsense' for '--from".into(),
        ),
        (["diff", &dead, &dead], 2, format!("both name {dead}")),
    ] {
        let [command, from, to] = words;
        let ran = run(&[command, "--from", from, "--to", to]);
        assert_eq!(ran.code, Some(code), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&text), "{words:?}: {}", ran.stderr);
        assert_eq!(ran.lines, [""; 0], "{words:?}");
        let advice = "(see --help)";
        let lines = ran.stderr.lines().filter(|line| *line != advice);
        assert_eq!(lines.count(), 1, "{words:?}: {}", ran.stderr);
    }
}

/// Where a scripted nsqlookupd has one topic `t` with these channels, as JSON.
fn one_topic(target: &str, channels: &str) -> (u16, String) {
    let body = match target.split('?').next().unwrap() {
        "/topics" => r#"{"topics":["t"]}"#.into(),
        "/nodes" => r#"{"producers":[]}"#.into(),
        "/channels" => format!(r#"{{"channels":{channels}}}"#),
        _ => "OK".into(),
    };
    (200, body)
}

#[test]
fn a_source_that_does_not_answer_as_it_should_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let new = single("new", folder.path());
    for (status, body, text) in [
        (
            200,
            "<html>".to_string(),
            "did not answer like an nsqlookupd: expected value",
        ),
        (
            200,
            format!(r#"{{"channels":"{}"}}"#, "long".repeat(1000)),
            "did not answer like an nsqlookupd: invalid type: string \"longlong",
        ),
        (
            200,
            " ".repeat(9 << 20),
            "answered 200 OK with more than 8388608 bytes",
        ),
        (301, String::new(), "answered 301 Moved Permanently"),
        (
            500,
            r#"{"message":"IN\nPIECES"}"#.into(),
            "answered 500 IN\\nPIECES",
        ),
    ] {
        let source = scripted::serve(move |_, target| match target {
            channels if channels.starts_with("/channels?") => (status, body.clone()),
            target => one_topic(target, "[]"),
        });
        let ran = run(&["import", "--from", &url(source), "--to", &url(new.http)]);
        let expected = format!("{}/channels?topic=t&consistency=linearizable", url(source));
        assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert!(ran.stderr.len() < 500, "{}", ran.stderr);
        assert_eq!((ran.code, ran.lines), (Some(1), vec![]));
    }
    assert_eq!(new.get("/topics").unwrap().body, r#"{"topics":[]}"#);
}

#[test]
fn names_that_cannot_be_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let new = single("new", folder.path());
    let source = scripted::serve(|_, target| match target {
        topics if topics.starts_with("/topics") => (200, r#"{"topics":["*","t","a b"]}"#.into()),
        target => one_topic(target, r#"["x","\u001b[31m","x&y=1"]"#),
    });
    let words = ["--from", &url(source), "--to", &url(new.http)];
    let ran = run(&[&["import"], &words[..]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.lines[..2], ["+ channel t/x", "+ topic t"]);
    let text = r#"skipped 4 invalid names, such as "*", "a b", "\u{1b}[31m", "x&y=1""#;
    assert!(ran.stderr.contains(text), "{}", ran.stderr);
    assert_eq!(run(&[&["diff"], &words[..]].concat()).code, Some(0));
}

#[test]
fn a_cluster_that_cannot_just_now_is_asked_again() {
    let source = scripted::serve(|_, target| one_topic(target, r#"["x"]"#));
    let asked = AtomicUsize::new(0);
    let target = scripted::serve(move |method, target| match (method, target) {
        ("POST", _) => match asked.fetch_add(1, Ordering::SeqCst) {
            0 => (503, r#"{"message":"NO_QUORUM"}"#.into()),
            1 => (504, r#"{"message":"OUTCOME_UNKNOWN"}"#.into()),
            _ => (200, String::new()),
        },
        (_, topics) if topics.starts_with("/topics") => (200, r#"{"topics":[]}"#.into()),
        (_, target) => one_topic(target, "[]"),
    });
    let ran = run(&["import", "--from", &url(source), "--to", &url(target)]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(
        ran.lines
            .contains(&"imported: topics 1, channels 1, tombstones 0".into()),
        "{:?}",
        ran.lines
    );
}

#[test]
fn what_was_done_is_reported_when_the_rest_fails() {
    let source = scripted::serve(|_, target| one_topic(target, r#"["x"]"#));
    let target = scripted::serve(|_, target| match target {
        create if create.starts_with("/channel/create") => (400, r#"{"message":"NO"}"#.into()),
        topics if topics.starts_with("/topics") => (200, r#"{"topics":[]}"#.into()),
        target => one_topic(target, "[]"),
    });
    let ran = run(&["import", "--from", &url(source), "--to", &url(target)]);
    assert_eq!(ran.code, Some(1));
    let expected = format!(
        "raftlookupd: {}/channel/create?topic=t&channel=x: answered 400 NO\n",
        url(target)
    );
    assert_eq!(ran.stderr, expected);
    assert_eq!(
        ran.lines,
        [
            "+ topic t",
            "already there: topics 0, channels 0, tombstones 0",
            "imported: topics 1, channels 0, tombstones 0",
            "not done: 1 of 2",
        ]
    );
}

/// docs/migration.md, step by step.
#[test]
fn a_migration_from_a_real_nsqlookupd() {
    let (Some(nsqd), Some(nsqlookupd)) = (find("nsqd"), find("nsqlookupd")) else {
        return;
    };
    let lasting = || ["--tombstone-lifetime=1h".to_string()];
    let old = Real::start(&nsqlookupd, lasting());
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let nsqds: Vec<Real> = folders
        .iter()
        .map(|folder| Real::nsqd(&nsqd, folder.path(), &[old.tcp]))
        .collect();
    nsqds
        .iter()
        .for_each(|nsqd| nsqd.create_channel("orders", "billing"));
    nsqds[0].post("/topic/create?topic=live%23ephemeral");
    // Only the old nsqlookupd remembers these.
    old.post("/channel/create?topic=orders&channel=audit");
    old.post("/channel/create?topic=archive&channel=reader");
    let cluster = Cluster::start(3, &["--tombstone-lifetime=1h"]);
    let from = url(old.http);
    let members: Vec<String> = cluster
        .members
        .iter()
        .map(|member| url(member.http))
        .collect();
    let to = members.join(",");
    let diff = || run(&["diff", "--from", &from, "--to", &to]);
    let tell = |ports: &[u16]| {
        let addresses: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        for nsqd in &nsqds {
            let list = serde_json::to_string(&addresses).unwrap();
            let told = http::send(nsqd.http, "PUT", "/config/nsqlookupd_tcp_addresses", &list);
            assert_eq!(told.unwrap().body, list);
        }
    };

    let new: Vec<u16> = cluster.members.iter().map(|member| member.tcp).collect();
    tell(&[&[old.tcp], &new[..]].concat());
    wait_until("every nsqd registers with both", || {
        let ran = diff();
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        !ran.lines.iter().any(|line| line.contains(": producer "))
    });
    old.post(&format!(
        "/topic/tombstone?topic=orders&node=127.0.0.1:{}",
        nsqds[1].http
    ));
    let missing = [
        "channel archive/reader".to_string(),
        "channel orders/audit".into(),
        format!("tombstone orders 127.0.0.1:{}", nsqds[1].tcp),
        "topic archive".into(),
    ];
    assert_eq!(
        diff().lines,
        missing
            .clone()
            .map(|what| format!("only at {from}: {what}"))
    );

    let import = run(&["import", "--from", &from, "--to", &to]);
    assert_eq!(import.code, Some(0), "{}", import.stderr);
    assert_eq!(import.lines[..4], missing.map(|what| format!("+ {what}")));
    assert_eq!((diff().code, diff().lines), (Some(0), vec![]));
    for member in &cluster.members {
        assert_eq!(member.lookup("orders").map(|hosts| hosts.len()), Some(1));
        let channels = member.get("/channels?topic=orders").unwrap().body;
        assert_eq!(channels, r#"{"channels":["audit","billing"]}"#);
    }

    // The old one is taken away, and the cluster keeps everything.
    tell(&new);
    wait_until("no nsqd is registered at the old one", || {
        let nodes = http::request(old.http, "GET", "/nodes").unwrap();
        nodes.body == r#"{"producers":[]}"#
    });
    assert_eq!(
        cluster.members[1].lookup("orders").map(|hosts| hosts.len()),
        Some(1)
    );

    // The way back: to an nsqlookupd that knows nothing.
    drop(old);
    let old = Real::start(&nsqlookupd, lasting());
    tell(&[&[old.tcp], &new[..]].concat());
    let back = ["--from", &members[0], "--to", &url(old.http)];
    wait_until("all is there", || {
        let import = run(&[&["import"], &back[..]].concat());
        assert_eq!(import.code, Some(0), "{}", import.stderr);
        run(&[&["diff"], &back[..]].concat()).code == Some(0)
    });
}
