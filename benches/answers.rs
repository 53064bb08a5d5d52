//! What it costs to write the answers of lookups as JSON.
#![allow(missing_docs)] // criterion's macros make items without
#![allow(clippy::expect_used)] // a benchmark says what it expects

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftlookupd::http::body;
use raftlookupd_raft::storage::event::{Event, MemberBatch, Proposal};
use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};
use raftlookupd_raft::storage::registration_db::{Lifetimes, RegistrationDb};

const LIFETIMES: Lifetimes = Lifetimes {
    now: 1_700_000_000_000,
    tombstone: 45_000,
    away: 300_000,
};

/// A registry in which these nsqds have all topics, with two channels each.
fn registry(nsqds: u64, topics: usize) -> RegistrationDb {
    let mut db = RegistrationDb::new();
    for number in 0..nsqds {
        let host = format!("nsqd-{number}.example.org");
        let producer = ProducerId {
            broadcast_address: host.clone(),
            tcp_port: 4150,
        };
        let mut events = vec![Event::Attach {
            producer: producer.clone(),
            remote_address: format!("10.0.0.{number}:40000"),
            info: PeerInfo {
                hostname: host,
                http_port: 4151,
                version: "1.3.0".into(),
                ..PeerInfo::default()
            },
            at: 1_700_000_000_000,
        }];
        for topic in 0..topics {
            events.extend(["billing", "archive"].map(|channel| Event::Claim {
                producer: producer.clone(),
                topic: format!("topic-{topic:05}"),
                channel: Some(channel.into()),
            }));
        }
        let batch = MemberBatch {
            member: 1,
            incarnation: 1,
            sequence: number + 1,
            at: 0,
            events,
        };
        let proposal = Proposal {
            batches: vec![batch],
            ..Proposal::default()
        };
        db.apply(&proposal).expect("rows can be encoded");
    }
    db
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    for nsqds in [1, 10, 100] {
        let db = registry(nsqds, 1);
        let answer = || {
            let found = body::lookup(&db, black_box("topic-00000"), LIFETIMES);
            serde_json::to_vec(&found.expect("a topic that is listed")).expect("JSON")
        };
        group.throughput(Throughput::Bytes(answer().len() as u64));
        group.bench_function(BenchmarkId::new("producers", nsqds), |bencher| {
            bencher.iter(answer);
        });
    }
    group.finish();
}

fn nodes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("nodes");
    for topics in [10, 1_000, 20_000] {
        let db = registry(10, topics);
        let answer = || serde_json::to_vec(&body::nodes(&db, LIFETIMES)).expect("JSON");
        group.throughput(Throughput::Bytes(answer().len() as u64));
        group.bench_function(BenchmarkId::new("topics", topics), |bencher| {
            bencher.iter(answer);
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, nodes);
criterion_main!(benches);
