//! Tests that churn does not grow the disk: space of purged entries and released rows is reused.
//!
//! Two well-known projects dropped sled over disk growth.
// Tests unwrap what they expect; clippy's exemption for tests does not cover helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use raftlookupd_storage::store::Store;
use support::{Feed, append, attach, claim, entry, release};

/// The number of entries that stay in the log.
const KEPT: u64 = 100;

const BATCHES_PER_ROUND: u64 = 150;

/// The registry may take at most twice what it took after this many rounds.
const WARM_UP_ROUNDS: u64 = 4;
const ROUNDS: u64 = 20;

/// The most bytes in the log's files: the kept entries, what precedes them in the same segment,
/// what follows in the next, and a segment that is just being removed.
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
                // Otherwise claims that are released at once would never be written.
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

/// The size of the files in a folder from which files may be removed concurrently.
fn size_of(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .filter_map(|file| file.unwrap().metadata().ok())
        .map(|file| file.len())
        .sum()
}
