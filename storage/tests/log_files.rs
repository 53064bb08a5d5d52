//! Tests the log's files: remains of crashes are accepted, damage is refused, segments come and go.
// Tests unwrap what they expect; clippy's exemption for tests does not cover helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use raftlookupd_storage::Error;
use raftlookupd_storage::log_table::LogTable;
use raftlookupd_storage::store::Store;
use support::{Random, append, copy_alive, copy_folder, entry};

/// One more entry than this would make a segment longer than 4 MiB.
const LARGE: usize = 1_000_000;
const LARGE_IN_SEGMENT: u64 = 4;

fn open(path: &Path) -> (Store, LogTable) {
    let store = Store::open(path).unwrap();
    let log = store.log();
    (store, log)
}

fn segment(path: &Path, number: u64) -> PathBuf {
    path.join(format!("log/{number:016}.log"))
}

fn segments(path: &Path) -> Vec<u64> {
    (0..100)
        .filter(|number| segment(path, *number).exists())
        .collect()
}

fn change(path: &Path, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let file = segment(path, number);
    let mut stored = std::fs::read(&file).unwrap();
    change(&mut stored);
    std::fs::write(file, stored).unwrap();
}

/// The end of the first segment's records. The last one must not end in zeros.
fn end_of_records(path: &Path) -> usize {
    let stored = std::fs::read(segment(path, 1)).unwrap();
    1 + stored.iter().rposition(|byte| *byte != 0).unwrap()
}

fn indexes(log: &LogTable) -> Vec<u64> {
    let found = log.read(0, u64::MAX, usize::MAX).unwrap();
    for (index, bytes) in &found {
        assert_eq!(*bytes, entry(*index, bytes.len()).1);
    }
    found.into_iter().map(|entry| entry.0).collect()
}

fn refusal(path: &Path) -> String {
    let error = Store::open(path).err().expect("it was opened");
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

/// Leaves what a killed process leaves after these small entries. Returns the end of each record.
/// The durable mark does not cover them yet.
fn killed_after(path: &Path, entries: &[(u64, Vec<u8>)]) -> Vec<usize> {
    let alive = path.with_extension("alive");
    let (_store, log) = open(&alive);
    let mark = std::fs::read(alive.join("durable-mark")).unwrap();
    let mut ends = vec![end_of_records(&alive)];
    for entry in entries {
        append(&log, vec![entry.clone()]);
        ends.push(end_of_records(&alive));
    }
    copy_alive(&alive, path);
    std::fs::write(path.join("durable-mark"), mark).unwrap();
    ends
}

/// An entry whose last byte is not zero.
fn small(index: u64) -> (u64, Vec<u8>) {
    let (index, bytes) = entry(index, 12);
    assert_ne!(bytes.last(), Some(&0));
    (index, bytes)
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    let entries: Vec<_> = (0..3).map(small).collect();
    let ends = killed_after(&good, &entries);
    for torn in ends[2]..=ends[3] {
        for tail in ["zeros", "end", "garbage"] {
            let path = folder.path().join(format!("{torn}-{tail}"));
            copy_folder(&good, &path);
            change(&path, 1, |stored| match tail {
                "zeros" => stored[torn..].fill(0),
                "end" => stored.truncate(torn),
                _ => stored[torn..].fill(0xA5),
            });
            let kept = if torn == ends[3] { 3 } else { 2 };
            let (store, log) = open(&path);
            assert_eq!(indexes(&log), (0..kept).collect::<Vec<_>>());
            append(&log, vec![small(kept)]);
            append(&log, vec![small(kept + 1)]);
            store.close().unwrap();
            drop(log);
            let (_store, log) = open(&path);
            assert_eq!(indexes(&log), (0..kept + 2).collect::<Vec<_>>());
            drop((_store, log));
            std::fs::remove_dir_all(path).unwrap();
        }
    }
}

#[test]
fn what_stands_behind_a_lost_record_never_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let entries: Vec<_> = (0..5).map(small).collect();
    let ends = killed_after(&path, &entries);
    // The disk wrote entries 3 and 4, but not 2.
    change(&path, 1, |stored| stored[ends[2]..ends[3]].fill(0));
    let (store, log) = open(&path);
    assert_eq!(indexes(&log), [0, 1]);
    let length = segment(&path, 1).metadata().unwrap().len();
    assert_eq!(length, ends[2] as u64);
    // The same bytes at the same position.
    append(&log, vec![small(2)]);
    store.close().unwrap();
    drop(log);
    let (store, log) = open(&path);
    assert_eq!(indexes(&log), [0, 1, 2]);
    append(&log, vec![small(3)]);
    store.close().unwrap();
    drop(log);
    assert_eq!(indexes(&open(&path).1), [0, 1, 2, 3]);
}

#[test]
fn a_torn_end_that_was_durable_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let (store, log) = open(&path);
    append(&log, (0..3).map(small).collect());
    store.close().unwrap();
    drop(log);
    let end = end_of_records(&path);
    change(&path, 1, |stored| stored[end - 1] ^= 1);
    let damaged = std::fs::read(segment(&path, 1)).unwrap();
    for _ in 0..2 {
        let text = refusal(&path);
        let expected = "entries up to 2 were durable, but the log ends at 1";
        assert!(text.contains(expected), "{text}");
        assert_eq!(std::fs::read(segment(&path, 1)).unwrap(), damaged);
    }
}

/// A closed log of three full segments and a fourth.
fn four_segments(path: &Path) {
    let (store, log) = open(path);
    for index in 0..=3 * LARGE_IN_SEGMENT {
        append(&log, vec![entry(index, LARGE)]);
    }
    store.close().unwrap();
    assert_eq!(segments(path), [1, 2, 3, 4]);
}

#[test]
fn missing_and_damaged_segments_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    four_segments(&good);
    let remove = |path: &Path, number| std::fs::remove_file(segment(path, number)).unwrap();
    let flip = |path: &Path, number, byte: usize| {
        change(path, number, |stored| stored[byte] ^= 0x10);
    };
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(Damage<'_>, &str); 11] = [
        (&|path| remove(path, 1), "log entry 0 is missing"),
        (&|path| remove(path, 2), "segment 2 of the log is missing"),
        (
            &|path| remove(path, 4),
            "entries up to 12 were durable, but the log ends at 11",
        ),
        (
            &|path| (1..5).for_each(|number| remove(path, number)),
            "`log` is missing",
        ),
        (
            &|path| flip(path, 2, 500_000),
            "segment 2 of the log: the record at byte 17 fails its checksum",
        ),
        (
            &|path| flip(path, 3, 8),
            "segment 3 of the log: its head is missing",
        ),
        (
            &|path| flip(path, 4, 0),
            "segment 4 of the log: its head is missing",
        ),
        (
            &|path| flip(path, 4, 500_000),
            "entries up to 12 were durable, but the log ends at 11",
        ),
        (
            &|path| change(path, 2, |stored| stored.truncate(3_500_000)),
            "segment 2 of the log: the record at byte 3000068 is truncated",
        ),
        (
            &|path| {
                change(path, 2, |stored| {
                    *stored.last_mut().unwrap() = 1;
                })
            },
            "segment 2 of the log: the record at byte 4000085 fails its checksum",
        ),
        (
            &|path| {
                std::fs::rename(segment(path, 1), path.join("moved")).unwrap();
                std::fs::rename(segment(path, 2), segment(path, 1)).unwrap();
                std::fs::rename(path.join("moved"), segment(path, 2)).unwrap();
            },
            "segment 1 of the log: its head is missing",
        ),
    ];
    for (damage, expected) in cases {
        let bad = folder.path().join("bad");
        copy_folder(&good, &bad);
        damage(&bad);
        // Twice: a failed attempt must not repair it.
        for _ in 0..2 {
            let text = refusal(&bad);
            assert!(text.contains(expected), "{text}");
        }
        std::fs::remove_dir_all(bad).unwrap();
    }
}

#[test]
fn an_interrupted_beginning_of_a_segment_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    four_segments(&path);
    std::fs::write(path.join("log/0000000000000005.tmp"), b"half a head").unwrap();
    let last = 3 * LARGE_IN_SEGMENT + 20;
    let (store, log) = open(&path);
    for index in 3 * LARGE_IN_SEGMENT + 1..=last {
        append(&log, vec![entry(index, LARGE)]);
    }
    store.close().unwrap();
    drop(log);
    assert!(segments(&path).len() > 8);
    assert_eq!(indexes(&open(&path).1), (0..=last).collect::<Vec<_>>());
}

#[test]
fn what_is_still_needed_outlives_the_segments_it_was_written_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let (store, log) = open(&path);
    append(&log, (0..10).map(|index| entry(index, 100)).collect());
    log.save_committed(b"committed").unwrap();
    // Beyond the end, as after installing a snapshot.
    log.purge(1000, b"point").unwrap();
    for index in 1001..1021 {
        append(&log, vec![entry(index, LARGE)]);
    }
    store.close().unwrap();
    drop(log);

    let (store, log) = open(&path);
    assert_eq!(indexes(&log), (1001..1021).collect::<Vec<_>>());
    assert_eq!(log.purge_point().unwrap(), Some((1000, b"point".to_vec())));
    assert_eq!(segments(&path)[0], 1);
    let bytes = store.disk_bytes().unwrap();
    assert_eq!(log.committed().unwrap(), Some(b"committed".to_vec()));
    log.purge(1020, b"all").unwrap();
    wait_until(|| segments(&path).len() == 1);
    assert!(store.disk_bytes().unwrap() + 10_000_000 < bytes);
    store.close().unwrap();
    drop(log);

    let (store, log) = open(&path);
    assert_eq!((log.last().unwrap(), log.live_entries()), (None, 0));
    assert_eq!(log.purge_point().unwrap(), Some((1020, b"all".to_vec())));
    assert_eq!(log.committed().unwrap(), Some(b"committed".to_vec()));
    append(&log, vec![entry(1021, 100)]);
    store.close().unwrap();
    drop(log);
    assert_eq!(indexes(&open(&path).1), [1021]);
}

/// Truncated entries are in older segments than the truncation. None of them may come back.
#[test]
fn segments_of_truncated_entries_are_removed_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let (store, log) = open(&path);
    for index in 0..20 {
        append(&log, vec![entry(index, LARGE)]);
    }
    log.truncate(3).unwrap();
    for index in 3..12 {
        append(&log, vec![entry(index, LARGE + 1)]);
    }
    log.purge(8, b"").unwrap();
    let oldest = segments(&path)[0];
    wait_until(|| segments(&path)[0] > oldest + 4);
    store.close().unwrap();
    drop(log);
    assert_eq!(indexes(&open(&path).1), [9, 10, 11]);
}

#[test]
fn entries_longer_than_a_segment_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = open(folder.path());
    let lengths = [3 << 20, 8 << 20, 10, 3 << 20, 3 << 20, 4 << 20, 0];
    let entries = || {
        (0..)
            .zip(lengths)
            .map(|(index, length)| entry(index, length))
    };
    entries().for_each(|entry| append(&log, vec![entry]));
    store.close().unwrap();
    drop(log);
    let (_store, log) = open(folder.path());
    let expected: Vec<_> = entries().collect();
    assert!(log.read(0, 100, usize::MAX).unwrap() == expected);
}

#[test]
fn an_unchanged_commit_point_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, log) = open(folder.path());
    log.save_committed(b"seven").unwrap();
    let written = std::fs::read(segment(folder.path(), 1)).unwrap();
    log.save_committed(b"seven").unwrap();
    assert!(std::fs::read(segment(folder.path(), 1)).unwrap() == written);
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
}

/// The log as it should be.
#[derive(Debug, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, Vec<u8>>,
    purged: Option<(u64, Vec<u8>)>,
    committed: Option<Vec<u8>>,
}

impl Model {
    fn of(log: &LogTable) -> Model {
        let found = log.read(0, u64::MAX, usize::MAX).unwrap();
        Model {
            entries: found.into_iter().collect(),
            purged: log.purge_point().unwrap(),
            committed: log.committed().unwrap(),
        }
    }

    fn first(&self) -> u64 {
        self.purged.as_ref().map_or(0, |(upto, _)| upto + 1)
    }

    fn next(&self) -> u64 {
        let last = self.entries.last_key_value();
        last.map_or(self.first(), |(index, _)| index + 1)
    }

    fn purge(&mut self, upto: u64, point: &[u8]) {
        if self.purged.as_ref().is_none_or(|(old, _)| *old <= upto) {
            self.purged = Some((upto, point.to_vec()));
            self.entries = self.entries.split_off(&(upto + 1));
        }
    }
}

#[test]
fn any_sequence_of_changes_gives_what_a_simple_model_gives() {
    let seeds = std::env::var("LOG_SEEDS").map_or(6, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let mut model = Model::default();
        let (mut store, mut log) = open(folder.path());
        for step in 0..120 {
            let next = model.next();
            match random.below(12) {
                0..=5 => {
                    let longest = [20, 5000, 900_000][random.below(3) as usize];
                    let entries: Vec<_> = (next..next + 1 + random.below(5))
                        .map(|index| {
                            let length = 8 + random.below(longest) as usize;
                            (index, entry(random.next(), length).1)
                        })
                        .collect();
                    model.entries.extend(entries.iter().cloned());
                    append(&log, entries);
                }
                6 | 7 => {
                    let from = next.saturating_sub(random.below(12));
                    let _removed = model.entries.split_off(&from);
                    log.truncate(from).unwrap();
                }
                8 | 9 => {
                    // Sometimes beyond the end.
                    let upto = (next + 1).saturating_sub(random.below(20));
                    let point = random.next().to_be_bytes();
                    model.purge(upto, &point);
                    log.purge(upto, &point).unwrap();
                }
                10 => {
                    let committed = next.to_be_bytes().to_vec();
                    log.save_committed(&committed).unwrap();
                    model.committed = Some(committed);
                }
                _ => {
                    drop(log);
                    if random.below(2) == 0 {
                        store.close().unwrap();
                        (store, log) = open(folder.path());
                    } else {
                        // As if the process had been killed.
                        let copy = tempfile::tempdir().unwrap();
                        copy_alive(folder.path(), &copy.path().join("data"));
                        let (_killed, log_of_killed) = open(&copy.path().join("data"));
                        assert!(
                            Model::of(&log_of_killed) == model,
                            "seed {seed}, step {step}"
                        );
                        log = store.log();
                    }
                }
            }
            assert!(Model::of(&log) == model, "seed {seed}, step {step}");
        }
        store.close().unwrap();
        drop(log);
        let (_store, log) = open(folder.path());
        assert!(Model::of(&log) == model, "seed {seed}");
    }
}
