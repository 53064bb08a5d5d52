//! Tests that no damage to sled's files costs anything: the tables are rebuilt from snapshot and log.
// Tests unwrap what they expect; clippy's exemption for tests does not cover helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use raftlookupd_storage::record_file::RecordFile;
use raftlookupd_storage::store::{FORMAT, OLDEST_FORMAT, Store};
use support::{Feed, append, attach, claim, copy_folder, entry, load};
use tempfile::TempDir;

/// Batches of the registry, and so entries of the log.
const BATCHES: u64 = 40;

/// The batches after which a snapshot is taken.
const SNAPSHOTS: [u64; 2] = [20, 30];

/// A closed store with two snapshots and a log that is purged up to the first.
struct Good {
    folder: TempDir,
    /// The state hash after each batch.
    hashes: Vec<u128>,
}

impl Good {
    fn write() -> Good {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("good");
        let store = Store::open(&path).unwrap();
        let (log, registrations) = (store.log(), store.registrations());
        let mut feed = Feed::default();
        let mut hashes = vec![0];
        for batch in 1..=BATCHES {
            append(&log, vec![entry(batch - 1, 100)]);
            let claims = (0..60).map(|n| claim(&format!("topic-{batch}-{n}"), Some("channel")));
            let events = [attach()].into_iter().chain(claims);
            feed.apply(&registrations, events.collect());
            hashes.push(feed.db.state_hash());
            if SNAPSHOTS.contains(&batch) {
                feed.snapshot(&store);
            }
            if batch == SNAPSHOTS[0] {
                let older = folder.path().join("older");
                support::copy_alive(&path, &older);
            }
        }
        feed.write(&registrations);
        log.purge(SNAPSHOTS[0] - 1, b"").unwrap();
        store.close().unwrap();
        Good { folder, hashes }
    }

    fn copy(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        copy_folder(&self.folder.path().join("good"), &path);
        path
    }

    /// Opens a store twice. Returns after which batch its registry ends, and why it was rebuilt.
    fn open(&self, path: &Path) -> (u64, Option<String>) {
        let [first, second] = [(), ()].map(|()| {
            let store = Store::open(path).unwrap();
            let loaded = load(&store).unwrap();
            let batch = u64::from_be_bytes(loaded.mark.unwrap().try_into().unwrap());
            assert_eq!(loaded.db.state_hash(), self.hashes[batch as usize]);
            store.close().unwrap();
            (batch, loaded.rebuilt)
        });
        assert_eq!(second, (first.0, None), "it was not rebuilt for good");
        first
    }
}

fn refusal(path: &Path) -> String {
    let error = Store::open(path).and_then(|store| load(&store).map(drop));
    let text = error.expect_err("it was loaded").to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

fn snapshot(path: &Path, batch: u64) -> PathBuf {
    path.join(format!("snapshots/{:016}.snapshot", batch - 1))
}

/// What happens to sled's folder.
type Case<'a> = (&'a str, &'a dyn Fn(&Path));

/// Flips one bit in the middle.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn leftovers_of_an_interruption_are_not_worth_a_rebuild() {
    let good = Good::write();
    for (number, content) in [vec![], vec![7; 30], vec![0; 100_000]].iter().enumerate() {
        let path = good.copy(&format!("stump-{number}"));
        let stump = path.join("sled/snap.00000000FF9999E7.generating");
        fs::write(&stump, content).unwrap();
        assert_eq!(good.open(&path), (BATCHES, None));
        assert!(!stump.exists());
    }
    let whole = fs::read(good.folder.path().join("good/sled/conf")).unwrap();
    for length in [0, 5, 9, 20, whole.len() - 1] {
        let mut zeros = whole.clone();
        zeros[length..].fill(0);
        for (shape, content) in [("cut", &whole[..length]), ("zeros", &zeros)] {
            let path = good.copy(&format!("conf-{shape}-{length}"));
            fs::write(path.join("sled/conf"), content).unwrap();
            assert_eq!(good.open(&path), (BATCHES, None), "{shape} at {length}");
        }
    }
}

#[test]
fn damaged_tables_are_rebuilt() {
    let good = Good::write();
    let length = fs::metadata(good.folder.path().join("good/sled/db"))
        .unwrap()
        .len();
    let cases: [Case<'_>; 6] = [
        ("missing", &|sled| fs::remove_dir_all(sled).unwrap()),
        ("garbage", &|sled| {
            fs::write(sled.join("db"), vec![0xA5; length as usize]).unwrap();
        }),
        ("empty", &|sled| fs::write(sled.join("db"), b"").unwrap()),
        ("cut", &|sled| {
            let file = fs::File::options().write(true).open(sled.join("db"));
            file.unwrap().set_len(length / 2).unwrap();
        }),
        ("zeros", &|sled| {
            let mut bytes = fs::read(sled.join("db")).unwrap();
            bytes[20_000..300_000].fill(0);
            fs::write(sled.join("db"), bytes).unwrap();
        }),
        ("a file", &|sled| {
            fs::remove_dir_all(sled).unwrap();
            fs::write(sled, b"").unwrap();
        }),
    ];
    for (name, change) in cases {
        let path = good.copy(name);
        change(&path.join("sled"));
        let (batch, reason) = good.open(&path);
        assert_eq!(batch, SNAPSHOTS[1], "{name}: {reason:?}");
        assert!(reason.is_some(), "{name}");
        let aside = path.join("sled.damaged");
        assert_eq!(aside.exists(), name != "missing", "{name}");
    }
}

#[test]
fn tables_without_their_newest_rows_are_rebuilt() {
    let good = Good::write();
    let path = good.copy("missing-rows");
    fs::remove_dir_all(path.join("sled")).unwrap();
    copy_folder(&good.folder.path().join("older/sled"), &path.join("sled"));
    let (batch, reason) = good.open(&path);
    assert_eq!(batch, SNAPSHOTS[1]);
    assert_eq!(
        reason.unwrap(),
        "it ends at entry 19, the newest snapshot at entry 29"
    );
}

#[test]
fn one_damaged_snapshot_file_is_not_the_end() {
    let good = Good::write();
    let path = good.copy("newest");
    damage(&snapshot(&path, SNAPSHOTS[1]));
    // The tables are whole, so nothing needs the file.
    assert_eq!(good.open(&path), (BATCHES, None));
    fs::remove_dir_all(path.join("sled")).unwrap();
    let (batch, reason) = good.open(&path);
    assert_eq!((batch, reason.is_some()), (SNAPSHOTS[0], true));
    // Both, and no tables: refused, twice.
    let path = good.copy("both");
    damage(&snapshot(&path, SNAPSHOTS[0]));
    damage(&snapshot(&path, SNAPSHOTS[1]));
    assert_eq!(good.open(&path), (BATCHES, None));
    fs::remove_dir_all(path.join("sled")).unwrap();
    for _ in 0..2 {
        let text = refusal(&path);
        let expected = "no whole snapshot file that reaches the log, which begins after entry 19";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("empty --data-path"), "{text}");
    }
}

#[test]
fn a_log_that_was_never_purged_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    append(&store.log(), (0..10).map(|n| entry(n, 10)).collect());
    store.close().unwrap();
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    let store = Store::open(folder.path()).unwrap();
    let loaded = load(&store).unwrap();
    assert!(loaded.mark.is_none() && loaded.rebuilt.is_some());
}

#[test]
fn the_log_is_covered_by_a_snapshot_before_the_tables_are_relied_on() {
    let good = Good::write();
    let path = good.copy("older-format");
    fs::remove_dir_all(path.join("snapshots")).unwrap();
    let format = RecordFile::new(path.join("format"));
    format.save(&OLDEST_FORMAT.to_be_bytes()).unwrap();
    assert_eq!(good.open(&path), (BATCHES, None));
    assert_eq!(format.load().unwrap().unwrap(), FORMAT.to_be_bytes());
    assert!(snapshot(&path, BATCHES).exists());
    fs::remove_dir_all(path.join("sled")).unwrap();
    assert_eq!(good.open(&path).0, BATCHES);
}
