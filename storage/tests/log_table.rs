//! Tests the log through its public interface, across restarts.
// Tests unwrap what they expect; clippy's exemption for tests does not cover helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::sync::mpsc;

use raftlookupd_storage::log_table::{LogTable, StoredVote};
use raftlookupd_storage::store::Store;
use support::{append, entry};

fn open(path: &Path) -> (Store, LogTable) {
    let store = Store::open(path).unwrap();
    let log = store.log();
    (store, log)
}

fn entries(indexes: std::ops::Range<u64>) -> Vec<(u64, Vec<u8>)> {
    indexes.map(|index| entry(index, 100)).collect()
}

fn indexes(log: &LogTable, start: u64, end: u64, max_bytes: usize) -> Vec<u64> {
    let found = log.read(start, end, max_bytes).unwrap();
    for (index, bytes) in &found {
        assert_eq!(*bytes, entry(*index, bytes.len()).1);
    }
    found.into_iter().map(|entry| entry.0).collect()
}

#[test]
fn a_new_log_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, log) = open(folder.path());
    assert_eq!(log.last().unwrap(), None);
    assert_eq!(log.vote().unwrap(), None);
    assert_eq!(log.committed().unwrap(), None);
    assert_eq!(log.purge_point().unwrap(), None);
    assert_eq!(log.read(0, u64::MAX, usize::MAX).unwrap(), []);
}

#[test]
fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = open(folder.path());
    let vote = StoredVote {
        term: 3,
        node_id: 2,
        committed: true,
    };
    append(&log, entries(0..5));
    append(&log, vec![entry(5, 300_000), entry(6, 8)]);
    log.save_vote(vote).unwrap();
    log.save_committed(b"4").unwrap();
    let bytes = log.live_bytes();
    assert_eq!(bytes, 5 * 100 + 300_000 + 8);
    store.close().unwrap();
    drop(log);

    let (_store, log) = open(folder.path());
    assert_eq!(indexes(&log, 0, 100, usize::MAX), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(log.last().unwrap(), Some(entry(6, 8)));
    assert_eq!(log.vote().unwrap(), Some(vote));
    assert_eq!(log.committed().unwrap(), Some(b"4".to_vec()));
    assert_eq!((log.live_bytes(), log.live_entries()), (bytes, 7));
}

#[test]
fn appended_entries_are_readable_before_they_are_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, log) = open(folder.path());
    let (done, outcomes) = mpsc::channel();
    for index in 0..50 {
        let done = done.clone();
        log.append(vec![entry(index, 100)], move |result| {
            done.send(result.map(|()| index)).unwrap();
        })
        .unwrap();
        assert_eq!(log.last().unwrap(), Some(entry(index, 100)));
    }
    let acknowledged: Vec<u64> = outcomes.iter().take(50).map(Result::unwrap).collect();
    assert_eq!(acknowledged, (0..50).collect::<Vec<_>>());
}

#[test]
fn reading_keeps_to_range_and_budget() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, log) = open(folder.path());
    append(&log, entries(0..10));
    for (start, end, max_bytes, expected) in [
        (3, 3, 1000, vec![]),
        (5, 3, 1000, vec![]),
        (3, 5, 1000, vec![3, 4]),
        (8, 100, 1000, vec![8, 9]),
        (10, 100, 1000, vec![]),
        (0, 10, 300, vec![0, 1, 2]),
        (0, 10, 299, vec![0, 1]),
        (4, 10, 99, vec![4]),
        (4, 10, 0, vec![4]),
    ] {
        let found = indexes(&log, start, end, max_bytes);
        assert_eq!(found, expected, "{start}..{end} in {max_bytes} bytes");
    }
}

#[test]
fn truncating_makes_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = open(folder.path());
    append(&log, entries(0..40));
    log.truncate(50).unwrap();
    assert_eq!(log.live_entries(), 40);
    log.truncate(4).unwrap();
    assert_eq!(indexes(&log, 0, 100, usize::MAX), [0, 1, 2, 3]);
    append(&log, vec![entry(4, 5000)]);
    store.close().unwrap();
    drop(log);

    let (store, log) = open(folder.path());
    assert_eq!(indexes(&log, 0, 100, usize::MAX), [0, 1, 2, 3, 4]);
    assert_eq!(log.last().unwrap(), Some(entry(4, 5000)));
    log.truncate(0).unwrap();
    assert_eq!((log.last().unwrap(), log.live_bytes()), (None, 0));
    store.close().unwrap();
    drop(log);

    let (_store, log) = open(folder.path());
    assert_eq!(log.last().unwrap(), None);
}

#[test]
fn what_is_purged_is_never_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = open(folder.path());
    append(&log, entries(0..100));
    log.purge(59, b"point 59").unwrap();
    for _ in 0..2 {
        assert_eq!(indexes(&log, 0, 63, usize::MAX), [60, 61, 62]);
        assert_eq!(log.read(10, 60, usize::MAX).unwrap(), []);
        assert_eq!(log.purge_point().unwrap(), Some((59, b"point 59".to_vec())));
        assert_eq!((log.live_entries(), log.live_bytes()), (40, 4000));
        // Older purge points change nothing.
        log.purge(12, b"point 12").unwrap();
    }
    store.close().unwrap();
    drop(log);

    // The removal was interrupted somewhere and continues.
    let (store, log) = open(folder.path());
    assert_eq!(indexes(&log, 0, 63, usize::MAX), [60, 61, 62]);
    assert_eq!(log.purge_point().unwrap(), Some((59, b"point 59".to_vec())));
    log.truncate(20).unwrap();
    assert_eq!((log.last().unwrap(), log.live_entries()), (None, 0));
    append(&log, entries(60..62));
    store.close().unwrap();
    drop(log);
    let (_store, log) = open(folder.path());
    assert_eq!(indexes(&log, 0, 100, usize::MAX), [60, 61]);
}

#[test]
fn a_purge_beyond_the_end_moves_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = open(folder.path());
    append(&log, entries(0..10));
    log.purge(1000, b"installed").unwrap();
    assert_eq!((log.last().unwrap(), log.live_entries()), (None, 0));
    store.close().unwrap();
    drop(log);

    let (store, log) = open(folder.path());
    assert_eq!(log.last().unwrap(), None);
    append(&log, entries(1001..1003));
    store.close().unwrap();
    drop(log);

    let (_store, log) = open(folder.path());
    assert_eq!(indexes(&log, 0, 5000, usize::MAX), [1001, 1002]);
    let purged = log.purge_point().unwrap();
    assert_eq!(purged, Some((1000, b"installed".to_vec())));
}

#[test]
fn entries_that_would_overwrite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, log) = open(folder.path());
    append(&log, entries(0..10));
    log.purge(20, b"").unwrap();
    for bad in [vec![entry(20, 10)], vec![entry(22, 10), entry(21, 10)]] {
        let error = log.append(bad, |_| panic!("not appended")).unwrap_err();
        assert!(error.to_string().contains("follows entry"), "{error}");
    }
    append(&log, entries(21..23));
}

#[test]
fn a_closed_log_can_be_read_but_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = open(folder.path());
    append(&log, entries(0..3));
    store.close().unwrap();
    let vote = StoredVote {
        term: 1,
        node_id: 1,
        committed: false,
    };
    for outcome in [
        log.append(entries(3..4), |_| panic!("not appended")),
        log.truncate(1),
        log.save_vote(vote),
        log.save_committed(b"1"),
        log.purge(1, b""),
    ] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.ends_with("the store is closed"), "{error}");
    }
    assert_eq!(indexes(&log, 0, 10, usize::MAX), [0, 1, 2]);
}

#[test]
fn reading_while_others_purge_and_truncate_finds_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, log) = open(folder.path());
    append(&log, (0..200).map(|index| entry(index, 6000)).collect());
    let reader = {
        let log = log.clone();
        std::thread::spawn(move || {
            let mut reads = 0;
            while log
                .purge_point()
                .unwrap()
                .is_none_or(|point| point.0 < 1900)
            {
                let found = log.read(0, u64::MAX, usize::MAX).unwrap();
                for (index, bytes) in &found {
                    assert_eq!(*bytes, entry(*index, bytes.len()).1);
                }
                assert!(found.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
                log.last().unwrap();
                reads += 1;
            }
            reads
        })
    };
    let mut next = 200;
    while next < 2000 {
        append(
            &log,
            (next..next + 20).map(|index| entry(index, 6000)).collect(),
        );
        log.truncate(next + 10).unwrap();
        next += 10;
        // Other lengths, so that chunks of both would not fit together.
        append(
            &log,
            (next..next + 10).map(|index| entry(index, 3000)).collect(),
        );
        log.truncate(next + 5).unwrap();
        next += 5;
        log.purge(next - 50, b"").unwrap();
    }
    log.purge(next - 1, b"").unwrap();
    assert!(reader.join().unwrap() > 0);
}
