//! What only this module can bring about: a disk that refuses, a hole in the log.

use std::sync::mpsc;

use super::*;
use crate::store::Store;

fn append(log: &LogTable, index: u64) -> IoResult<()> {
    let (done, outcome) = mpsc::channel();
    log.append(vec![(index, vec![1])], move |result| {
        done.send(result).unwrap();
    })
    .unwrap();
    outcome.recv().unwrap()
}

const VOTE: StoredVote = StoredVote {
    term: 1,
    node_id: 1,
    committed: false,
};

#[test]
fn after_a_failed_sync_nothing_is_promised_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    append(&log, 0).unwrap();
    log.0.engine.break_sync();
    append(&log, 1).unwrap_err();
    for error in [
        log.append(vec![(2, vec![1])], |_| panic!("not appended"))
            .unwrap_err(),
        log.save_vote(VOTE).unwrap_err(),
        log.truncate(0).unwrap_err(),
    ] {
        assert!(error.to_string().contains("until a restart"), "{error}");
    }
    store.close().unwrap_err();
    let mark = log.0.mark.get();
    assert!(mark.last <= Some(0) && mark.vote.is_none(), "{mark:?}");
}

#[test]
fn the_mark_follows_what_is_durable_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    append(&log, 0).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while log.0.mark.get().last != Some(0) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn a_truncation_lowers_the_mark_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    for index in 0..5 {
        append(&log, index).unwrap();
    }
    let inner = &log.0;
    inner.mark.raise(|| inner.state().synced).unwrap();
    assert_eq!(inner.mark.get().last, Some(4));
    log.truncate(2).unwrap();
    assert_eq!(inner.mark.get().last, Some(1));
    // Not the entry that stood there before.
    assert_eq!(inner.state().synced, Some(1));
}

#[test]
fn an_interrupted_truncation_leaves_a_log_that_can_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    for steps in 0..20 {
        let store = Store::open(&folder.path().join(steps.to_string())).unwrap();
        let log = store.log();
        let entries = (0..60).map(|index| (index, vec![1; index as usize * 200]));
        let (done, outcome) = mpsc::channel();
        log.append(entries.collect(), move |result| done.send(result).unwrap())
            .unwrap();
        outcome.recv().unwrap().unwrap();
        let inner = &log.0;
        inner.state().truncate(10);
        inner.mark.lower(10).unwrap();
        for _ in 0..steps {
            inner.delete_step(10).unwrap();
        }
        let path = store.data_path().to_path_buf();
        store.close().unwrap();
        drop(log);
        let log = Store::open(&path).unwrap().log();
        let end = log.last().unwrap().unwrap().0;
        assert!((9..60).contains(&end), "after {steps} steps: {end}");
        assert!(steps < 19 || end == 9, "after {steps} steps: {end}");
    }
}

#[test]
fn holes_and_damaged_entries_are_noticed_when_opened() {
    let key = first_key(1).to_vec();
    let mut flipped = to_chunks(1, b"entry").remove(0).1;
    flipped[6] ^= 1;
    let moved = to_chunks(2, b"entry").remove(0).1;
    for (damage, expected) in [
        ((key.clone(), None), "log entry 1 is missing"),
        ((first_key(0).to_vec(), None), "log entry 0 is missing"),
        (
            (key.clone(), Some(flipped)),
            "log entry 1 fails its checksum",
        ),
        ((key, Some(moved)), "log entry 1 fails its checksum"),
        (
            (first_key(3).to_vec(), None),
            "entries up to 3 were durable, the log ends at 2",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let log = store.log();
        for index in 0..4 {
            append(&log, index).unwrap();
        }
        log.0.entries.batch([damage]).unwrap();
        // Alive, too: it should be there, and is not.
        log.read(0, 4, usize::MAX).unwrap_err();
        store.close().unwrap();
        drop(log);
        let error = Store::open(folder.path()).err().expect(expected);
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn purged_entries_are_deleted_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    for index in 0..100 {
        append(&log, index).unwrap();
    }
    log.purge(40, b"").unwrap();
    log.purge(89, b"").unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while log.0.entries.range(b"", None).count() > 10 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(log.read(0, 100, usize::MAX).unwrap().len(), 10);
}
