//! Tests failures that only this module can inject: a failing disk, an omitted step.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::log::segment_files;
use crate::store::Store;

fn append_bytes(log: &LogTable, entries: Vec<(u64, Vec<u8>)>) -> IoResult<()> {
    let (done, outcome) = mpsc::channel();
    log.append(entries, move |result| done.send(result).unwrap())
        .unwrap();
    outcome.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn append(log: &LogTable, index: u64) -> IoResult<()> {
    append_bytes(log, vec![(index, vec![1])])
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

/// Changes the first segment.
fn change_file(data_path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = segment_files::folder_in(data_path).join("0000000000000001.log");
    let mut stored = std::fs::read(&path).unwrap();
    change(&mut stored);
    std::fs::write(path, stored).unwrap();
}

const VOTE: StoredVote = StoredVote {
    term: 1,
    node_id: 1,
    committed: false,
};

fn assert_stopped(log: &LogTable) {
    for error in [
        log.append(vec![(2, vec![1])], |_| panic!("not appended"))
            .unwrap_err(),
        log.save_vote(VOTE).unwrap_err(),
        log.save_committed(b"new").unwrap_err(),
        log.purge(0, b"").unwrap_err(),
        log.truncate(0).unwrap_err(),
    ] {
        assert!(error.to_string().contains("until a restart"), "{error}");
    }
}

#[test]
fn after_a_failed_sync_nothing_is_promised_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    append(&log, 0).unwrap();
    log.shared.segments.break_sync();
    append(&log, 1).unwrap_err();
    assert_stopped(&log);
    store.close().unwrap_err();
    let mark = log.shared.mark.get();
    assert!(mark.last <= Some(0) && mark.vote.is_none(), "{mark:?}");
}

#[test]
fn after_a_failed_write_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    append(&log, 0).unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    log.shared.writing().file = Arc::new(full);
    log.append(vec![(1, vec![1])], |_| panic!("not appended"))
        .unwrap_err();
    assert_stopped(&log);
    assert_eq!(log.last_index(), Some(0));
}

#[test]
fn a_segment_that_cannot_be_begun_stops_everything() {
    for damage in [
        |log: &LogTable, _: &Path| log.shared.segments.break_sync(),
        |_: &LogTable, path: &Path| std::fs::remove_dir_all(path).unwrap(),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let log = store.log();
        append(&log, 0).unwrap();
        damage(&log, &segment_files::folder_in(folder.path()));
        log.append(vec![(1, vec![1; 5 << 20])], |_| panic!("not appended"))
            .unwrap_err();
        assert_stopped(&log);
    }
}

#[test]
fn a_vote_that_cannot_be_saved_stops_everything() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    // The file that the mark is written to before it is renamed.
    std::fs::create_dir(folder.path().join("durable-mark.tmp")).unwrap();
    log.save_vote(VOTE).unwrap_err();
    assert_eq!(log.vote().unwrap(), None);
    assert_stopped(&log);
}

#[test]
fn a_mark_that_cannot_be_advanced_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    let in_the_way = folder.path().join("durable-mark.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    let started = Instant::now();
    let mut last = 0;
    // Long enough for the mark to be overdue more than once.
    while started.elapsed() < Duration::from_millis(2500) {
        append(&log, last).unwrap();
        last += 1;
    }
    assert_eq!(log.shared.mark.get().last, None);
    std::fs::remove_dir(&in_the_way).unwrap();
    wait_until(|| log.shared.mark.get().last == Some(last - 1));
    store.close().unwrap();
}

#[test]
fn the_mark_follows_what_is_durable_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    append(&log, 0).unwrap();
    wait_until(|| log.shared.mark.get().last == Some(0));
}

#[test]
fn a_truncation_lowers_the_mark_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    for index in 0..5 {
        append(&log, index).unwrap();
    }
    let inner = &*log.shared;
    inner.mark.raise(|| inner.state().synced).unwrap();
    assert_eq!(inner.mark.get().last, Some(4));
    log.truncate(2).unwrap();
    assert_eq!(inner.mark.get().last, Some(1));
    // Not the entry that was there before.
    assert_eq!(inner.state().synced, Some(1));
}

#[test]
fn an_interrupted_truncation_leaves_a_log_that_can_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    for (steps, expected) in [(0, 59), (1, 59), (2, 9), (3, 9)] {
        let store = Store::open(&folder.path().join(steps.to_string())).unwrap();
        let log = store.log();
        // Three segments.
        let entries = (0..60).map(|index| (index, vec![1; index as usize * 5000]));
        append_bytes(&log, entries.collect()).unwrap();
        let inner = &*log.shared;
        inner.mark.raise(|| inner.state().synced).unwrap();
        if steps >= 1 {
            inner.state().truncate(10);
            inner.mark.lower(10).unwrap();
        }
        if steps >= 2 {
            let mut tail = inner.writing();
            inner
                .write(&mut tail, &[Record::Truncated { from: 10 }])
                .unwrap();
        }
        if steps >= 3 {
            append(&log, 10).unwrap();
            log.truncate(10).unwrap();
        }
        let path = store.data_path().to_path_buf();
        store.close().unwrap();
        drop(log);
        let log = Store::open(&path).unwrap().log();
        let end = log.last().unwrap().unwrap().0;
        assert_eq!(end, expected, "after {steps} steps");
        let found = log.read(0, 100, usize::MAX).unwrap();
        assert_eq!(found.len() as u64, expected + 1);
    }
}

#[test]
fn a_hole_is_tolerated_until_the_log_is_opened() {
    for (indexes, expected) in [
        ([0, 1, 3], "log entry 2 is missing"),
        ([1, 2, 3], "log entry 0 is missing"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for index in indexes {
            append(&store.log(), index).unwrap();
        }
        store.close().unwrap();
        let error = Store::open(folder.path()).err().expect(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_damaged_entry_is_noticed_when_read_and_when_opened() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    for index in 0..4 {
        append(&log, index).unwrap();
    }
    let place = log.shared.state().entries[&1];
    let entry = (place.position.offset as usize)..;
    for (byte, expected) in [
        (12, "log entry 1 fails its checksum"),
        (2, "log entry 1 is truncated"),
    ] {
        let flip = |stored: &mut Vec<u8>| stored[entry.clone()][byte] ^= 1;
        change_file(folder.path(), flip);
        assert_eq!(log.read(0, 1, usize::MAX).unwrap().len(), 1);
        let error = log.read(0, 4, usize::MAX).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        change_file(folder.path(), flip);
    }
    change_file(folder.path(), |stored| stored[entry.clone()][..18].fill(0));
    let error = log.read(1, 2, usize::MAX).unwrap_err().to_string();
    assert!(error.contains("log entry 1 is missing"), "{error}");

    store.close().unwrap();
    drop(log);
    for _ in 0..2 {
        let error = Store::open(folder.path()).err().unwrap().to_string();
        let expected = "entries up to 3 were durable, but the log ends at 0";
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn purged_segments_are_removed_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let log = store.log();
    for index in 0..100 {
        append_bytes(&log, vec![(index, vec![1; 200_000])]).unwrap();
    }
    assert_eq!(log.shared.segments.range(), (1, 5));
    let first_of = |segment| {
        let state = log.shared.state();
        let mut entries = state.entries.iter();
        let first = entries.find(|(_, place)| place.position.segment == segment);
        *first.unwrap().0
    };
    let (second, fourth) = (first_of(2), first_of(4));
    // All but the last entry of a segment.
    log.purge(second - 2, b"").unwrap();
    log.purge(fourth - 1, b"").unwrap();
    // The files go after the range has moved.
    let files = segment_files::folder_in(folder.path());
    wait_until(|| segment_files::numbers(&files).unwrap() == [4, 5]);
    assert_eq!(log.shared.segments.range(), (4, 5));
    let kept = log.read(0, 100, usize::MAX).unwrap();
    assert_eq!(kept.len() as u64, 100 - fourth);
    assert_eq!(kept[0].0, fourth);
    // The last one is never removed, although nothing in it is needed.
    log.purge(99, b"").unwrap();
    wait_until(|| log.shared.segments.range() == (5, 5));
}
