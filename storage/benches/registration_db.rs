//! Measures applying events and querying, by the size of the registry.
#![allow(missing_docs)] // criterion's macros make items without
#![allow(clippy::expect_used)] // a benchmark says what it expects

mod support;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration_db::Lifetimes;

use support::{CHANNELS, claims, producer, registry, topic};

/// The topics of a small, a medium and a large registry.
const SIZES: [usize; 3] = [10, 1_000, 20_000];

/// The number of topics that one proposal claims.
const NEW: usize = 20;

const LIFETIMES: Lifetimes = Lifetimes {
    now: 1_700_000_000_000,
    tombstone: 45_000,
    away: 300_000,
};

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements((NEW * CHANNELS) as u64));
    for topics in SIZES {
        let (mut db, mut proposals) = registry(topics);
        // Together they leave the registry as it was: one releases what the other claims.
        let release = |topic| Event::Release {
            producer: producer(0),
            topic,
            channel: None,
        };
        let new = topics..topics + NEW;
        group.bench_function(BenchmarkId::new("claims and releases", topics), |bencher| {
            bencher.iter_batched(
                || {
                    let mut events = claims(0, new.clone());
                    events.extend(new.clone().map(topic).map(release));
                    proposals.next(events)
                },
                |proposal| db.apply(&proposal),
                BatchSize::SmallInput,
            );
        });
        let (mut db, mut proposals) = registry(topics);
        let there = 0..NEW.min(topics);
        group.bench_function(
            BenchmarkId::new("claims already there", topics),
            |bencher| {
                bencher.iter_batched(
                    || proposals.next(claims(0, there.clone())),
                    |proposal| db.apply(&proposal),
                    BatchSize::SmallInput,
                );
            },
        );
    }
    group.finish();
}

fn query(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("query");
    for topics in SIZES {
        let (db, _) = registry(topics);
        let name = topic(topics / 2);
        group.bench_function(BenchmarkId::new("producers", topics), |bencher| {
            bencher.iter(|| {
                let producers = db.producers(black_box(&name), LIFETIMES);
                producers.map(Iterator::count)
            });
        });
        group.bench_function(BenchmarkId::new("channels", topics), |bencher| {
            bencher.iter(|| db.channels(black_box(&name)).map(Iterator::count));
        });
        group.bench_function(BenchmarkId::new("topics", topics), |bencher| {
            bencher.iter(|| db.topics().map(str::len).sum::<usize>());
        });
        group.bench_function(BenchmarkId::new("nodes", topics), |bencher| {
            bencher.iter(|| {
                db.nodes(LIFETIMES)
                    .map(|node| node.topics.len())
                    .sum::<usize>()
            });
        });
        let nsqd = producer(0);
        group.bench_function(BenchmarkId::new("is_recorded", topics), |bencher| {
            bencher.iter(|| db.is_recorded(1, &nsqd, black_box(&name), Some("channel-0")));
        });
    }
    group.finish();
}

criterion_group!(benches, apply, query);
criterion_main!(benches);
