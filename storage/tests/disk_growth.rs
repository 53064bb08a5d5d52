//! Churn does not grow the disk: space of what was purged or released is used again.
//!
//! Two well-known projects left this engine over disk growth.
// A test says what it expects by unwrapping; the exemption for tests ends at helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use raftlookupd_storage::store::Store;
use support::{Feed, append, attach, claim, entry, release};

/// Entries that stay in the log.
const KEPT: u64 = 100;

const BATCHES_PER_ROUND: u64 = 150;

/// What the registry takes at most is twice what it took after this many rounds.
const WARM_UP_ROUNDS: u64 = 4;
const ROUNDS: u64 = 20;

/// What the log's files hold at most: what is kept, what stands before it in the same segment,
/// what is behind it in the next, and a segment that is just being removed.
const LOG_BYTES: u64 = 3 * (4 << 20) + KEPT * 6000;

#[test]
fn churn_stays_within_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (log, registrations) = (store.log(), store.registrations());
    let mut feed = Feed::default();
    feed.apply(&registrations, vec![attach()]);
    let mut next = 0;
    let mut written = 0;
    let mut bound = u64::MAX;
    for round in 0..ROUNDS {
        for batch in 0..BATCHES_PER_ROUND {
            append(&log, vec![entry(next, 6000)]);
            written += 6000;
            next += 1;
            let topics = (0..10).map(|n| format!("topic-{}", (batch * 10 + n) % 500));
            let topics: Vec<String> = topics.collect();
            let claims = topics.iter().flat_map(|topic| {
                [
                    claim(topic, Some("channel#ephemeral")),
                    claim(&format!("{topic}#ephemeral"), None),
                ]
            });
            let releases = topics
                .iter()
                .flat_map(|topic| [release(topic), release(&format!("{topic}#ephemeral"))]);
            for events in [claims.collect(), releases.collect()] {
                feed.apply(&registrations, events);
                // Otherwise what comes and goes at once would never be written.
                feed.write(&registrations);
            }
            if next > KEPT && next % 50 == 0 {
                log.purge(next - KEPT, b"").unwrap();
            }
        }
        let in_log = size_of(&folder.path().join("log"));
        let registry = size_of(&folder.path().join("sled"));
        println!(
            "round {round}: {written} bytes of entries written, {in_log} + {registry} on disk"
        );
        if round == WARM_UP_ROUNDS {
            bound = 2 * registry;
        }
        assert!(registry <= bound, "round {round}: {registry} bytes of rows");
        assert!(in_log <= LOG_BYTES, "round {round}: {in_log} bytes of log");
        assert!(store.disk_bytes().unwrap() <= bound.saturating_add(LOG_BYTES));
    }
    assert_eq!(log.live_entries(), KEPT - 1);
    store.close().unwrap();
}

/// The bytes of the files in a folder from which one may be removed at any time.
fn size_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .filter_map(|file| file.unwrap().metadata().ok())
        .map(|file| file.len())
        .sum()
}
