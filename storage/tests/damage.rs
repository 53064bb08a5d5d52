//! Tests that a damaged store opens with everything in it, or not at all. Damaged tables are rebuilt.
//!
//! sled by itself opens most damaged files without an error and with rows missing, and to the log,
//! damage at its end looks like an interrupted write.
// Tests unwrap what they expect; clippy's exemption for tests does not cover helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};

use raftlookupd_storage::Result;
use raftlookupd_storage::log_table::StoredVote;
use raftlookupd_storage::store::Store;
use support::{Feed, Random, append, attach, claim, copy_folder, entry};

const LAST: u64 = 299;
const PURGED: u64 = 199;

/// Large enough for three segments, of which the first is purged.
const ENTRY_BYTES: usize = 30_000;

const VOTE: StoredVote = StoredVote {
    term: 5,
    node_id: 3,
    committed: true,
};

/// The number of seeds per kind of damage; raise it for a longer search.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("DAMAGE_SEEDS").map_or(6, |seeds| seeds.parse().unwrap());
    0..count
}

/// A closed store, and the state hash of its registry.
fn write_good(path: &Path) -> u128 {
    let store = Store::open(path).unwrap();
    let log = store.log();
    let mut feed = Feed::default();
    // First, so that a lost suffix consists of entries.
    log.save_vote(VOTE).unwrap();
    for first in (0..=LAST).step_by(10) {
        append(
            &log,
            (first..first + 10).map(|n| entry(n, ENTRY_BYTES)).collect(),
        );
        let topics = (0..100).map(|n| claim(&format!("topic-{first}-{n}"), Some("channel")));
        let events = [attach()].into_iter().chain(topics);
        feed.apply(&store.registrations(), events.collect());
        if first > PURGED + 30 && log.purge_point().unwrap().is_none() {
            // Here a batch has ten entries.
            let frozen = store.registrations().freeze(&feed.db, &feed.mark());
            let frozen = frozen.unwrap().unwrap();
            frozen.write_to(&store.snapshots(), first + 9).unwrap();
            log.purge(PURGED, b"point").unwrap();
        }
    }
    feed.write(&store.registrations());
    store.close().unwrap();
    feed.db.state_hash()
}

/// Reads everything or returns an error; panics if something is missing without one.
fn read_all(path: &Path, state_hash: u128) -> Result<()> {
    let store = Store::open(path)?;
    let log = store.log();
    let found = log.read(0, u64::MAX, usize::MAX)?;
    // A purge may be lost as long as nothing was deleted.
    let purged = log.purge_point()?.map_or(0, |point| point.0 + 1);
    assert!(purged <= PURGED + 1);
    let expected: Vec<_> = (purged..=LAST).map(|n| entry(n, ENTRY_BYTES)).collect();
    assert!(found == expected, "entries are missing");
    assert_eq!(log.vote()?, Some(VOTE));
    let number = |mark: &[u8]| u64::from_be_bytes(mark.try_into().unwrap());
    let loaded = store.load_registry(|mark| Ok((number(mark) * 10).checked_sub(1)))?;
    let applied = loaded.mark.as_deref().map_or(0, |mark| number(mark) * 10);
    assert!(applied >= purged, "the registry ends before the log begins");
    assert!(applied <= LAST || loaded.db.state_hash() == state_hash);
    Ok(())
}

/// Damages copies of a store and reads them. Returns how many were refused.
fn count_refused(name: &str, damage: impl Fn(&Path, &mut Random)) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    let state_hash = write_good(&good);
    // On a copy: opening a store writes a summary of it, which sled trusts. Without one, sled takes
    // the first damage for the end of a crashed log.
    let other = folder.path().join("other");
    copy_folder(&good, &other);
    read_all(&other, state_hash).unwrap();
    let mut refused = 0;
    for seed in seeds() {
        let bad: PathBuf = folder.path().join(format!("bad-{seed}"));
        copy_folder(if seed % 2 == 0 { &good } else { &other }, &bad);
        damage(&bad, &mut Random(seed));
        // Twice: a failed attempt must not repair it.
        let outcomes = [read_all(&bad, state_hash), read_all(&bad, state_hash)];
        for outcome in &outcomes {
            if let Err(error) = outcome {
                println!("{name} {seed}: {error}");
                assert!(!error.to_string().contains('\n'));
                // The tables' damage alone costs nothing.
                assert!(!error.to_string().contains("tables"), "{error}");
            }
        }
        if outcomes[0].is_err() {
            assert!(outcomes[1].is_err(), "{name} {seed}: healed by opening");
            refused += 1;
        }
        std::fs::remove_dir_all(bad).unwrap();
    }
    println!("{name}: {refused} of {} refused", seeds().end);
    refused
}

/// Changes bytes of sled's main file, or of one of the log's.
fn change_file(path: &Path, random: &mut Random, change: impl FnOnce(&mut Vec<u8>, &mut Random)) {
    let mut large = files(&path.join("log"));
    // As often as all of the log's together.
    large.resize(2 * large.len(), path.join("sled/db"));
    let file = &large[random.below(large.len() as u64) as usize];
    let mut bytes = std::fs::read(file).unwrap();
    change(&mut bytes, random);
    std::fs::write(file, bytes).unwrap();
}

/// The non-empty files in a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.metadata().unwrap().len() > 0)
        .collect();
    files.sort();
    files
}

#[test]
fn flipped_bytes() {
    count_refused("flip", |path, random| {
        change_file(path, random, |bytes, random| {
            for _ in 0..=random.below(3) {
                let position = random.below(bytes.len() as u64) as usize;
                bytes[position] ^= 1 << random.below(8);
            }
        });
    });
}

#[test]
fn zeroed_blocks() {
    count_refused("zero", |path, random| {
        change_file(path, random, |bytes, random| {
            let block = random.below(bytes.len() as u64 / 4096) as usize * 4096;
            let blocks = 1 + random.below(40) as usize;
            let end = bytes.len().min(block + blocks * 4096);
            bytes[block..end].fill(0);
        });
    });
}

#[test]
fn a_cut_off_file() {
    let refused = count_refused("cut", |path, random| {
        change_file(path, random, |bytes, random| {
            let length = random.below(bytes.len() as u64) as usize;
            bytes.truncate(length);
        });
    });
    assert!(refused > 0, "the damage hits nothing");
}

#[test]
fn swapped_blocks() {
    count_refused("swap", |path, random| {
        change_file(path, random, |bytes, random| {
            let blocks = bytes.len() as u64 / 4096;
            let (from, to) = (random.below(blocks), random.below(blocks));
            let (from, to) = (from as usize * 4096, to as usize * 4096);
            let moved = bytes[from..from + 4096].to_vec();
            bytes[to..to + 4096].copy_from_slice(&moved);
        });
    });
}

#[test]
fn missing_and_damaged_side_files() {
    count_refused("side", |path, random| {
        let folders = [path.to_path_buf(), path.join("sled"), path.join("log")];
        let files: Vec<_> = folders.iter().flat_map(|folder| files(folder)).collect();
        let file = &files[random.below(files.len() as u64) as usize];
        match random.below(3) {
            0 => std::fs::remove_file(file).unwrap(),
            1 => std::fs::write(file, b"").unwrap(),
            _ => {
                let mut bytes = std::fs::read(file).unwrap();
                let position = random.below(bytes.len() as u64) as usize;
                bytes[position] ^= 0x10;
                std::fs::write(file, bytes).unwrap();
            }
        }
    });
}
