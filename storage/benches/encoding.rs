//! Measures encoding and decoding the proposals that log entries carry.
#![allow(missing_docs)] // criterion's macros make items without
#![allow(clippy::expect_used)] // a benchmark says what it expects

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::event::Proposal;

use support::{CHANNELS, Proposals, claims};

fn proposals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("proposal");
    for topics in [1, 20, 200] {
        let proposal = Proposals::default().next(claims(0, 0..topics));
        let bytes = encode("a proposal", &proposal).expect("proposals can be encoded");
        let events = topics * CHANNELS;
        group.throughput(Throughput::Elements(events as u64));
        group.bench_function(BenchmarkId::new("encode", events), |bencher| {
            bencher.iter(|| encode("a proposal", black_box(&proposal)));
        });
        group.bench_function(BenchmarkId::new("decode", events), |bencher| {
            bencher.iter(|| decode::<Proposal>("a proposal", black_box(&bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, proposals);
criterion_main!(benches);
