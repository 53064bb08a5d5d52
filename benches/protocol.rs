//! What it costs to understand what an nsqd sends.
#![allow(missing_docs)] // criterion's macros make items without
#![allow(clippy::expect_used)] // a benchmark says what it expects

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raftlookupd::nsqd::protocol::session::Session;

/// As much as one read of a connection takes.
const LINES: usize = 256;

/// The beginning of a conversation.
fn identify() -> Vec<u8> {
    let body = br#"{"broadcast_address":"nsqd-1.example.org","hostname":"nsqd-1","tcp_port":4150,"http_port":4151,"version":"1.3.0"}"#;
    let length = u32::try_from(body.len()).expect("a short body");
    [b"  V1IDENTIFY\n", &length.to_be_bytes()[..], body].concat()
}

/// Takes what was sent; how many actions follow from it.
fn take(session: &mut Session, bytes: &[u8]) -> usize {
    session.receive(bytes);
    let mut actions = 0;
    while let Some(action) = session.next_action() {
        black_box(action);
        actions += 1;
    }
    actions
}

fn protocol(criterion: &mut Criterion) {
    let identify = identify();
    criterion.bench_function("IDENTIFY", |bencher| {
        bencher.iter(|| take(&mut Session::new(), black_box(&identify)));
    });

    let mut group = criterion.benchmark_group("lines");
    group.throughput(Throughput::Elements(LINES as u64));
    let registers = (0..LINES).map(|number| format!("REGISTER topic-{number:05} channel-1\n"));
    for (name, lines) in [
        ("REGISTER", registers.collect::<String>()),
        ("PING", "PING\n".repeat(LINES)),
    ] {
        let mut session = Session::new();
        take(&mut session, &identify);
        group.bench_function(name, |bencher| {
            bencher.iter(|| take(&mut session, black_box(lines.as_bytes())));
        });
    }
    group.finish();
}

criterion_group!(benches, protocol);
criterion_main!(benches);
