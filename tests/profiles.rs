//! /debug/pprof: what `go tool pprof` reads, read here without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::read::GzDecoder;
use pprof::protos::{Message, Profile};

use support::cluster::Cluster;
use support::http::{self, Answer};
use support::{wait_for, wait_until};

#[test]
fn a_cpu_profile_names_the_functions_that_work() {
    let cluster = Cluster::start(1, &[]);
    let member = &cluster.members[0];
    let enough = AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = http::Client::new(member.http);
            while !enough.load(Ordering::Relaxed) {
                client.get("/topics");
            }
        });
        let answer = http::request_patiently(member.http, "/debug/pprof/profile?seconds=2");
        enough.store(true, Ordering::Relaxed);
        answer.expect("a profile")
    });
    let profile = decode(&answer, "profile");
    assert_eq!(types(&profile), ["samples/count", "cpu/nanoseconds"]);
    let time: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
    assert!(time > 0, "{time}");
    let names = functions_in_samples(&profile);
    assert!(names.iter().any(|name| name.contains("tokio")), "{names:?}");
}

#[test]
fn a_cpu_profile_ends_when_its_client_leaves() {
    let cluster = Cluster::start(1, &[]);
    let port = cluster.members[0].http;
    let next = || http::request_patiently(port, "/debug/pprof/profile?seconds=1").unwrap();
    let leaving = wait_for("the first is being taken", || {
        let mut first = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = b"GET /debug/pprof/profile?seconds=300 HTTP/1.1\r\nHost: test\r\n\r\n";
        first.write_all(request).unwrap();
        // Otherwise this one was faster, and the first was refused.
        (next().status == 500).then_some(first)
    });
    drop(leaving);
    wait_until("the next is taken", || next().status == 200);
}

#[test]
fn one_cpu_profile_at_a_time_and_none_holds_up_the_end() {
    let mut cluster = Cluster::start(1, &[]);
    let member = &cluster.members[0];
    let port = member.http;
    // Tries again when the one below was faster.
    std::thread::spawn(move || {
        while http::request_patiently(port, "/debug/pprof/profile?seconds=300").is_some() {}
    });
    wait_until("the second is refused", || {
        let second = http::request_patiently(port, "/debug/pprof/profile?seconds=1").unwrap();
        second.status == 500 && {
            let text = "Could not enable CPU profiling: cpu profiling already in use\n";
            is_plain(&second, text);
            true
        }
    });
    let many = member.get("/topics").unwrap();
    assert_eq!(many.status, 200);
    assert_eq!(cluster.members[0].terminate(), Some(0));
}

#[test]
fn a_heap_profile_says_who_holds_memory() {
    let cluster = Cluster::start(1, &[]);
    let port = cluster.members[0].http;
    let answer = http::request_patiently(port, "/debug/pprof/heap").unwrap();
    if !cfg!(feature = "heap-profile") {
        assert_eq!(answer.status, 404);
        assert!(answer.body.starts_with("No heap profile"), "{answer:?}");
        return;
    }
    let profile = decode(&answer, "heap");
    assert_eq!(types(&profile), ["inuse_space/bytes"]);
    let bytes: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
    assert!(bytes > 512 * 1024, "{bytes}");
    let names = functions_in_samples(&profile);
    assert!(
        names.iter().any(|name| name.contains("raftlookupd")),
        "{names:?}"
    );
}

#[test]
fn the_pages_around_them() {
    let cluster = Cluster::start(1, &["--log-prefix=[a b] "]);
    let member = &cluster.members[0];

    let index = member.get("/debug/pprof").unwrap();
    assert_eq!(
        index.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    for named in ["profile", "heap", "cmdline"] {
        let link = format!("<a href=\"/debug/pprof/{named}");
        assert!(index.body.contains(&link), "{named} in {}", index.body);
    }
    let moved = member.get("/debug/pprof/").unwrap();
    assert_eq!(moved.header("Location"), Some("/debug/pprof"));

    let words = member.get("/debug/pprof/cmdline").unwrap().body;
    let words: Vec<&str> = words.split('\0').collect();
    assert_eq!(words[0], env!("CARGO_BIN_EXE_raftlookupd"));
    assert_eq!(words[1..], member.flags());

    for name in [
        "goroutine",
        "allocs",
        "block",
        "mutex",
        "threadcreate",
        "trace",
        "symbol",
        "x",
    ] {
        let answer = member.get(&format!("/debug/pprof/{name}")).unwrap();
        assert_eq!(answer.status, 404, "{name}");
        assert_eq!(answer.body, r#"{"message":"NOT_FOUND"}"#, "{name}");
    }
    for seconds in ["0", "301", "-1", "soon", ""] {
        let answer = member
            .get(&format!("/debug/pprof/profile?seconds={seconds}"))
            .unwrap();
        assert_eq!(answer.status, 400, "{seconds}");
        is_plain(&answer, "seconds must be a whole number from 1 to 300\n");
    }
}

/// A text that `go tool pprof` shows.
#[track_caller]
fn is_plain(answer: &Answer, text: &str) {
    assert_eq!(answer.body, text);
    assert_eq!(answer.header("X-Go-Pprof"), Some("1"));
    assert_eq!(
        answer.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
}

#[track_caller]
fn decode(answer: &Answer, name: &str) -> Profile {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("Content-Type"),
        Some("application/octet-stream")
    );
    let disposition = format!("attachment; filename=\"{name}\"");
    assert_eq!(answer.header("Content-Disposition"), Some(&*disposition));
    let mut bytes = Vec::new();
    let mut gzip = GzDecoder::new(answer.bytes.as_slice());
    gzip.read_to_end(&mut bytes).unwrap();
    Profile::decode(bytes.as_slice()).unwrap()
}

fn text(profile: &Profile, number: i64) -> &str {
    &profile.string_table[usize::try_from(number).unwrap()]
}

fn types(profile: &Profile) -> Vec<String> {
    let types = profile.sample_type.iter();
    types
        .map(|of| format!("{}/{}", text(profile, of.ty), text(profile, of.unit)))
        .collect()
}

/// The names of all functions that lead to a sample.
fn functions_in_samples(profile: &Profile) -> Vec<&str> {
    let locations = profile.sample.iter().flat_map(|sample| &sample.location_id);
    let lines = locations.flat_map(|id| {
        let location = profile.location.iter().find(|location| location.id == *id);
        &location.expect("a location").line
    });
    let names = lines.map(|line| {
        let mut functions = profile.function.iter();
        let function = functions.find(|function| function.id == line.function_id);
        text(profile, function.expect("a function").name)
    });
    names.collect()
}
