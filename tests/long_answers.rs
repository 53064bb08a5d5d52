//! Long answers delay neither other requests nor writes, and their memory is freed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use support::cluster::Cluster;
use support::http::Answer;
use support::member::Member;
use support::nsqd::Nsqd;
use support::{DEADLINE, http, wait_for, wait_until};

const TOPICS: usize = 20_000;

/// Clients that ask for long answers at the same time.
const READERS: usize = 40;

/// Far longer than a short answer takes on a busy machine. Forty clients once kept a member from
/// answering for twelve seconds.
const PROMPT: Duration = Duration::from_secs(3);

/// As little as the system allows: what a client does not read stays at the member.
const RECEIVE_BUFFER: usize = 4096;

/// Registers topics with a channel each, many at a time; again, while a busy machine has no quorum.
fn register_topics(member: &Member) -> Nsqd {
    let mut nsqd = member.nsqd("large");
    let mut left: Vec<usize> = (0..TOPICS).collect();
    while !left.is_empty() {
        let mut unavailable = Vec::new();
        for window in left.chunks(200) {
            let line =
                |number: &usize| format!("REGISTER a_topic_with_some_name_{number} channel\n");
            let lines: String = window.iter().map(line).collect();
            nsqd.send(lines.as_bytes()).unwrap();
            for number in window {
                let answer = nsqd.answer().unwrap();
                if answer != "OK" {
                    assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
                    unavailable.push(*number);
                }
            }
        }
        left = unavailable;
    }
    nsqd
}

/// Sends a request; the answer is read by [`read`], or not at all.
fn ask(member: &Member, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], member.http));
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Reads an answer, which must be complete.
fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|some| some == b"\r\n\r\n");
    let body = bytes.split_off(end.unwrap() + 4);
    let head = String::from_utf8(bytes).unwrap();
    let answer = Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        body: String::from_utf8(body.clone()).unwrap(),
        bytes: body,
    };
    let length = answer.header("Content-Length").unwrap();
    assert_eq!(length.parse(), Ok(answer.bytes.len()), "{}", answer.head);
    answer
}

fn metric(member: &Member, name: &str) -> u64 {
    let text = member.get("/metrics").unwrap().body;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

fn bytes_held(member: &Member) -> u64 {
    metric(member, "nsqlookup_http_long_answer_bytes ")
}

fn in_time<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    assert!(
        begun.elapsed() < PROMPT,
        "{what} took {:?}",
        begun.elapsed()
    );
    done
}

fn is_whole(path: &str, json: &serde_json::Value) {
    match path {
        "/nodes" => {
            let nodes = json["producers"].as_array().unwrap();
            assert_eq!(nodes.len(), 1);
            for list in ["topics", "tombstones"] {
                let list = nodes[0][list].as_array().unwrap();
                assert!(list.len() >= TOPICS, "{}", list.len());
            }
        }
        "/debug" => {
            let entries = json.as_object().unwrap().len();
            assert!(entries > 2 * TOPICS, "{entries}");
        }
        _ => panic!("{path}"),
    }
}

#[test]
fn clients_that_read_slowly_or_not_at_all_keep_no_others_waiting() {
    let cluster = Cluster::start(1, &[]);
    let member = &cluster.members[0];
    let mut nsqd = register_topics(member);
    let term = member.status().unwrap()["term"].clone();
    let path = |number: usize| ["/debug", "/nodes"][number % 2];
    let mut readers: Vec<TcpStream> = (0..READERS)
        .map(|number| ask(member, path(number)))
        .collect();
    wait_until("long answers wait to be read", || bytes_held(member) > 0);
    for round in 0..50 {
        let get = |target: &str| in_time(target, || member.get(target).unwrap());
        assert_eq!(get("/ping").body, "OK");
        let found = get("/lookup?topic=a_topic_with_some_name_7");
        assert_eq!(found.json()["channels"][0], "channel");
        assert_eq!(found.json()["producers"][0]["hostname"], "large");
        let channels = get("/channels?topic=a_topic_with_some_name_8");
        assert_eq!(channels.body, r#"{"channels":["channel"]}"#);
        in_time("REGISTER", || nsqd.registered(&format!("new{round}"), ""));
    }
    assert!(bytes_held(member) > 0, "nothing has been read");
    assert_eq!(member.status().unwrap()["term"], term);

    // Every other pair goes away without having read anything; the rest is answered in full, or was
    // asked to come back.
    let mut numbers = 0..READERS;
    readers.retain(|_| numbers.next().unwrap() % 4 < 2);
    let mut served = 0;
    for (number, reader) in readers.into_iter().enumerate() {
        let answer = read(reader);
        if answer.status == 503 {
            assert_eq!(answer.body, r#"{"message":"BUSY"}"#);
            assert_eq!(answer.header("Retry-After"), Some("1"));
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.head);
        is_whole(path(number), &answer.json());
        served += 1;
    }
    assert!(served > 0);
    wait_until("all memory is free", || {
        bytes_held(member) == 0 && metric(member, "nsqlookup_http_long_answers_building ") == 0
    });
    let topics = wait_for("all topics", || {
        http::request_patiently(member.http, "/topics").filter(|answer| answer.status == 200)
    });
    assert!(topics.json()["topics"].as_array().unwrap().len() >= TOPICS);
}

#[test]
fn a_long_answer_is_whole() {
    let cluster = Cluster::start(1, &[]);
    let member = &cluster.members[0];
    let _nsqd = register_topics(member);
    for path in ["/nodes", "/debug"] {
        let answer = http::request_patiently(member.http, path).unwrap();
        assert_eq!(answer.status, 200);
        is_whole(path, &answer.json());
        // The client has nothing more to send, and still waits.
        let half_closed = ask(member, path);
        half_closed.shutdown(Shutdown::Write).unwrap();
        let same = read(half_closed);
        assert_eq!(same.status, 200, "{}", same.head);
        assert_eq!(same.bytes, answer.bytes);
    }
    let stale = http::request_patiently(member.http, "/topics?consistency=stale").unwrap();
    assert!(stale.is_stale());
    assert_eq!(stale.json()["topics"].as_array().unwrap().len(), TOPICS);

    // The next request on the connection of a long answer.
    let mut stream = TcpStream::connect(("127.0.0.1", member.http)).unwrap();
    let request = b"GET /topics HTTP/1.1\r\nHost: test\r\n\r\nGET /ping HTTP/1.0\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(b"OK"));
}
