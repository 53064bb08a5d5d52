//! What a member writes to its log, and how that is changed while it runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use support::cluster::Cluster;
use support::http;
use support::member::Member;
use support::wait_until;

/// From the start through elections and protocol errors to the end.
#[test]
fn with_log_format_json_every_line_is_an_object() {
    let mut cluster = Cluster::start(3, &["--log-format=json", "--log-level=debug"]);
    let mut nsqd = cluster.members[0].nsqd("h1");
    nsqd.registered("orders", "billing");
    let port = cluster.members[0].tcp;
    insult(port, b"  V1ESC\x1b[2J\xc2\x9b\x07 \"quoted\\ \xff\n");
    insult(port, b"GET / HTTP/1.1\r\n\r\n");
    // What is not written yet is lost with the process.
    wait_until("both are in the log", || {
        let log = cluster.members[0].log();
        log.contains("E_INVALID") && log.contains("HTTP request on the TCP port")
    });

    let leader = cluster.leader();
    cluster.members[leader].kill();
    let others = (leader + 1) % 3;
    wait_until("another leader", || {
        let known = cluster.members[others].status().unwrap()["leader"].clone();
        known.is_u64() && known != (leader as u64 + 1)
    });
    cluster.members[leader].start();
    cluster.wait_ready();
    for member in &mut cluster.members {
        assert_eq!(member.terminate(), Some(0));
    }

    for member in &cluster.members {
        let log = member.log();
        let lines: Vec<Value> = log.lines().map(parsed).collect();
        let with = |key: &str| lines.iter().any(|line| !line[key].is_null());
        assert!(with("uri") && with("status") && with("term"), "{log}");
    }
    let log = cluster.members[0].log();
    let said = log
        .lines()
        .map(parsed)
        .find(|line| !line["remote"].is_null() && line["level"] == "error");
    let said = said.expect("a line about the bad command");
    let error = said["error"].as_str().unwrap();
    assert!(
        error.starts_with("E_INVALID invalid command ESC\u{1b}[2J\u{9b}\u{7}"),
        "{said}"
    );
}

/// What alerts and dashboards of nsqlookupd's users may look for.
#[test]
fn what_nsqlookupd_logs_too_is_in_its_words() {
    let mut cluster = Cluster::start(1, &["--log-level=debug"]);
    let member = &mut cluster.members[0];
    let mut nsqd = member.nsqd("h1");
    nsqd.registered("orders", "billing");
    insult(member.tcp, b"  V1BOGUS\n");
    member.get("/lookup?topic=unknown");
    drop(nsqd);
    wait_until("the nsqd is gone", || {
        member.log().matches("exiting ioloop").count() == 2
    });
    let log = member.log();
    let port = |line: &str| {
        let (_, port) = line.split_once("127.0.0.1:").unwrap();
        let end = port.find(|c: char| !c.is_ascii_digit());
        let end = end.unwrap_or(port.len());
        format!("127.0.0.1:{}", &port[..end])
    };
    for expected in [
        "INFO: TCP: new client(ADDR)",
        "INFO: CLIENT(ADDR): IDENTIFY Address:h1 TCP:4150 HTTP:4151 Version:1.3.0",
        "DEBUG: DB: client(ADDR) REGISTER category:channel key:orders subkey:billing",
        "INFO: PROTOCOL(V1): [ADDR] exiting ioloop",
        "ERROR: [ADDR] - E_INVALID invalid command BOGUS",
    ] {
        let is_it = |line: &str| {
            line.contains("127.0.0.1:")
                && line.ends_with(&format!(" {}", expected.replace("ADDR", &port(line))))
        };
        assert!(log.lines().any(is_it), "{expected} in\n{log}");
    }
    let answered = log.lines().find_map(|line| {
        let (_, rest) = line.split_once(" INFO: 404 GET /lookup?topic=unknown (")?;
        rest.rsplit_once(") ")
    });
    let (remote, elapsed) = answered.unwrap_or_else(|| panic!("{log}"));
    assert!(remote.starts_with("127.0.0.1:"), "{remote}");
    assert!(
        elapsed.ends_with("µs") || elapsed.ends_with("ms"),
        "{elapsed}"
    );
}

fn parsed(line: &str) -> Value {
    assert!(!line.contains(char::is_control), "{line:?}");
    let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
    let text = |key: &str| {
        let text = object[key].as_str();
        text.unwrap_or_else(|| panic!("no {key} in {line}"))
    };
    assert!(text("time").ends_with('Z'), "{line}");
    assert!(
        chrono::DateTime::parse_from_rfc3339(text("time")).is_ok(),
        "{line}"
    );
    let levels = ["debug", "info", "warning", "error"];
    assert!(levels.contains(&text("level")), "{line}");
    assert!(!text("message").is_empty(), "{line}");
    object
}

/// Says something that ends the conversation.
fn insult(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.is_empty());
}

#[test]
fn the_level_is_changed_over_http_as_at_nsqd() {
    let mut cluster = Cluster::start(1, &[]);
    let member = &mut cluster.members[0];
    assert_eq!(level(member), "2");
    // Asked for so often that they are logged as details.
    member.get("/metrics?before");
    let answer = put(member, "debug");
    assert_eq!((answer.status, answer.body.as_str()), (200, "1"));
    assert_eq!(
        answer.header("Content-Type"),
        Some("application/json; charset=utf-8")
    );
    assert_eq!(level(member), "1");
    member.get("/metrics?details");

    assert_eq!(put(member, "FATAL").body, "5");
    member.get("/metrics?silence");
    member.get("/topics?silence");
    assert_eq!(put(member, "Warn").body, "3");

    assert_eq!(member.terminate(), Some(0));
    let log = member.log();
    for (text, expected) in [
        ("/metrics?before", 0),
        ("/metrics?details", 1),
        ("silence", 0),
        (
            "log level changed until the next start from=info to=debug",
            1,
        ),
        ("from=debug to=fatal", 1),
        ("from=fatal to=warn", 1),
    ] {
        let lines = log.lines().filter(|line| line.contains(text)).count();
        assert_eq!(lines, expected, "{text} in\n{log}");
    }

    member.start();
    member.wait_ready();
    assert_eq!(level(member), "2");
}

#[test]
fn what_is_no_level_changes_nothing() {
    let cluster = Cluster::start(1, &[]);
    let member = &cluster.members[0];
    for (body, status) in [
        ("loud", 400),
        ("\"debug\"", 400),
        (" debug", 400),
        ("debug\n", 400),
        ("1", 400),
        ("d\u{e9}bug", 400),
        ("", 413),
        ("debugdebugdebugdebug", 413),
        (&"debug".repeat(100_000), 413),
    ] {
        let answer = put(member, body);
        assert_eq!(answer.status, status, "{body:.40}");
        assert_eq!(answer.json()["message"], "INVALID_VALUE", "{body:.40}");
    }
    let answer = member.post("/config/log_level").unwrap();
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("Allow"), Some("GET, OPTIONS, PUT"));
    assert_eq!(level(member), "2");
}

fn level(member: &Member) -> String {
    member.get("/config/log_level").unwrap().body
}

fn put(member: &Member, body: &str) -> http::Answer {
    http::send(member.http, "PUT", "/config/log_level", body).unwrap()
}
