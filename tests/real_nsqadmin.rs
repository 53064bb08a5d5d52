//! The real nsqadmin, where there is one, at all members: in the end the registry is what one
//! nsqlookupd would have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use serde_json::{Value, json};
use support::cluster::Cluster;
use support::real::{Real, find};
use support::{http, wait_until};

/// What an operator does, and what of it must be seen at the nsqd.
fn operate(nsqadmin: &Real, nsqd: &Real) {
    let ask = |method: &str, target: &str, body: Value| {
        let answer = http::send(nsqadmin.http, method, target, &body.to_string());
        let answer = answer.expect("nsqadmin answers");
        assert_eq!(answer.status, 200, "{method} {target}: {}", answer.body);
    };
    let names = |topic: &str, channel: &str| json!({"topic": topic, "channel": channel});
    ask("POST", "/api/topics", names("orders", "billing"));
    ask("POST", "/api/topics", names("mails", "archive"));
    ask("POST", "/api/topics", names("old", ""));
    for (topic, channel) in [
        ("orders", "billing"),
        ("orders", "spare"),
        ("mails", "archive"),
    ] {
        nsqd.create_channel(topic, channel);
    }
    // nsqadmin asks the lookupds who has a topic.
    wait_until("nsqadmin knows who has the topics", || {
        let found = |target: &str, text: &str| {
            let answer = http::request(nsqadmin.http, "GET", target);
            answer.is_some_and(|answer| answer.body.contains(text))
        };
        found("/api/topics/orders", "spare") && found("/api/topics/mails", "archive")
    });
    let paused = |pointer: &str| {
        let stats = http::request(nsqd.http, "GET", "/stats?format=json&topic=orders");
        stats.unwrap().json().pointer(pointer) == Some(&Value::Bool(true))
    };
    for (target, pointer) in [
        ("/api/topics/orders", "/topics/0/paused"),
        ("/api/topics/orders/billing", "/topics/0/channels/0/paused"),
    ] {
        ask("POST", target, json!({"action": "pause"}));
        assert!(paused(pointer), "{target}");
        ask("POST", target, json!({"action": "unpause"}));
        assert!(!paused(pointer), "{target}");
    }
    ask("POST", "/api/topics/orders", json!({"action": "empty"}));
    ask("DELETE", "/api/topics/orders/spare", json!({}));
    ask("DELETE", "/api/topics/old", json!({}));
    // A tombstone at the lookupds, and the end of the topic at the nsqd.
    let node = format!("/api/nodes/127.0.0.1:{}", nsqd.http);
    ask("DELETE", &node, json!({"topic": "mails"}));
}

/// Whether a lookupd lists what is left then.
fn lists_what_is_left(lookupd_http: u16) -> bool {
    let get = |target: &str| http::request(lookupd_http, "GET", target).unwrap().json();
    let sorted = |list: &Value| {
        let names = list.as_array().unwrap().iter();
        let mut names: Vec<String> = names.map(ToString::to_string).collect();
        names.sort();
        names.join(" ")
    };
    let channels = |topic: &str| sorted(&get(&format!("/channels?topic={topic}"))["channels"]);
    let producers = |topic: &str| {
        let found = get(&format!("/lookup?topic={topic}"));
        found["producers"].as_array().map_or(0, Vec::len)
    };
    let nodes = get("/nodes");
    let node = &nodes["producers"][0];
    sorted(&get("/topics")["topics"]) == r#""mails" "orders""#
        && channels("orders") == r#""billing""#
        && channels("mails") == r#""archive""#
        && channels("old").is_empty()
        && (producers("orders"), producers("mails")) == (1, 0)
        && sorted(&node["topics"]) == r#""orders""#
        && node["tombstones"] == json!([false])
}

#[test]
fn what_nsqadmin_does_is_done_at_every_member() {
    let (Some(nsqd), Some(nsqadmin)) = (find("nsqd"), find("nsqadmin")) else {
        return;
    };
    let cluster = Cluster::start(3, &[]);
    let folder = tempfile::tempdir().unwrap();
    let tcp: Vec<u16> = cluster.members.iter().map(|member| member.tcp).collect();
    let http: Vec<u16> = cluster.members.iter().map(|member| member.http).collect();
    let nsqd = Real::nsqd(&nsqd, folder.path(), &tcp);
    let nsqadmin = Real::nsqadmin(&nsqadmin, &http);
    operate(&nsqadmin, &nsqd);
    for member in &cluster.members {
        // The nsqd tells its lookupds of a deleted channel after it has answered.
        wait_until(&format!("{} lists what is left", member.name), || {
            lists_what_is_left(member.http)
        });
    }
    let hashes = cluster.state_hashes();
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "{hashes:?}"
    );
}

#[test]
fn it_is_the_same_with_one_nsqlookupd() {
    let (Some(nsqd), Some(nsqadmin)) = (find("nsqd"), find("nsqadmin")) else {
        return;
    };
    let Some(nsqlookupd) = find("nsqlookupd") else {
        return;
    };
    let lookupd = Real::start(&nsqlookupd, []);
    let folder = tempfile::tempdir().unwrap();
    let nsqd = Real::nsqd(&nsqd, folder.path(), &[lookupd.tcp]);
    let nsqadmin = Real::nsqadmin(&nsqadmin, &[lookupd.http]);
    operate(&nsqadmin, &nsqd);
    wait_until("nsqlookupd lists what is left", || {
        lists_what_is_left(lookupd.http)
    });
}
