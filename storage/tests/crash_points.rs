//! Tests the purge gate with seeds: wherever a crash comes, and whatever becomes of the tables, snapshot
//! and log have everything that was acknowledged.
//!
//! A story appends, applies, takes snapshots, purges behind them, and installs snapshots of a member
//! that is ahead. In between, copies of the data path are made that stand for what a crash may leave;
//! they are opened, and the log is replayed.
// Tests unwrap what they expect; clippy's exemption for tests does not cover helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::event::Event;
use raftlookupd_storage::store::Store;
use support::{Feed, Random, append, attach, claim, copy_alive, copy_folder, load, release};
use tempfile::TempDir;

const STEPS: u64 = 40;

/// One step in so many is followed by crashes.
const STEPS_PER_CRASH: u64 = 6;

/// The number of stories; raise it for a longer search.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("CRASH_SEEDS").map_or(1, |seeds| seeds.parse().unwrap());
    0..count
}

struct Story {
    random: Random,
    folder: TempDir,
    store: Store,
    feed: Feed,
    /// The events of each batch, and the state hash after it. Batch `n` is entry `n - 1`.
    history: Vec<(Vec<Event>, u128)>,
    /// Batches that were acknowledged here.
    acknowledged: u64,
    /// Tables from an earlier crash: a power failure may bring them back.
    older_tables: Option<PathBuf>,
    crashes: u64,
}

impl Story {
    fn begin(seed: u64) -> Story {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("data")).unwrap();
        load(&store).unwrap();
        Story {
            random: Random(seed),
            folder,
            store,
            feed: Feed::default(),
            history: Vec::new(),
            acknowledged: 0,
            older_tables: None,
            crashes: 0,
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..=6 => self.acknowledge(),
            7 | 8 if self.feed.applied > 0 => self.feed.snapshot(&self.store),
            9 | 10 => self.purge(),
            11 => self.install(),
            _ => {}
        }
        if self.random.below(STEPS_PER_CRASH) == 0 {
            self.crash();
        }
    }

    fn events(&mut self) -> Vec<Event> {
        let mut events = vec![attach()];
        for _ in 0..self.random.below(200) {
            let topic = format!("topic-{}", self.random.below(300));
            events.push(match self.random.below(4) {
                0 => release(&topic),
                _ => claim(&topic, Some("channel")),
            });
        }
        events
    }

    fn acknowledge(&mut self) {
        let events = self.events();
        let encoded = encode("events", &events).unwrap();
        append(&self.store.log(), vec![(self.feed.applied, encoded)]);
        self.feed.apply(&self.store.registrations(), events.clone());
        self.history.push((events, self.feed.db.state_hash()));
        self.acknowledged = self.feed.applied;
    }

    /// As a member does: up to the snapshot before the newest one.
    fn purge(&mut self) {
        let purged = self.store.log().purge_point().unwrap();
        if let Some(upto) = self.store.snapshots().second_newest()
            && purged.is_none_or(|(purged, _)| purged < upto)
        {
            self.store.log().purge(upto, b"").unwrap();
        }
    }

    /// Takes in a snapshot of a member that is ahead.
    fn install(&mut self) {
        let folder = tempfile::tempdir().unwrap();
        let ahead = Store::open(folder.path()).unwrap();
        let mut feed = Feed::default();
        for (events, _) in self.history.clone() {
            feed.apply(&ahead.registrations(), events);
        }
        for _ in 0..3 {
            let events = self.events();
            feed.apply(&ahead.registrations(), events.clone());
            self.history.push((events, feed.db.state_hash()));
        }
        feed.snapshot(&ahead);
        let last = feed.applied - 1;
        let (mut sent, _) = ahead.snapshots().open_whole(last).unwrap();

        let snapshots = self.store.snapshots();
        let mut received = snapshots.receive().unwrap();
        std::io::copy(&mut sent, &mut received).unwrap();
        self.crash();
        let decoded = snapshots.read_received(&mut received).unwrap();
        let registrations = self.store.registrations();
        registrations.install(&decoded.db, &decoded.mark).unwrap();
        self.crash();
        snapshots.adopt(&mut received, last).unwrap();
        self.crash();
        self.store.log().purge(last, b"").unwrap();
        // Now the snapshot counts as received: the log is no longer what it was before.
        self.acknowledged = feed.applied;
        self.feed = feed;
    }

    /// Opens what a crash may leave at this moment.
    fn crash(&mut self) {
        let copies = self.folder.path().join("copies");
        let as_is = copies.join("as-is");
        copy_alive(&self.folder.path().join("data"), &as_is);
        let copy = |name: &str, change: &dyn Fn(&Path)| {
            let path = copies.join(name);
            copy_folder(&as_is, &path);
            change(&path);
            self.check(name, &path);
        };
        copy("without-tables", &|path| {
            fs::remove_dir_all(path.join("sled")).unwrap();
        });
        copy("unfinished", &|path| {
            fs::write(path.join("snapshots/written.tmp"), b"half").unwrap();
            fs::write(path.join("sled/snap.00000000FF.generating"), b"").unwrap();
        });
        if let Some(older) = &self.older_tables {
            copy("older-tables", &|path| {
                fs::remove_dir_all(path.join("sled")).unwrap();
                copy_folder(older, &path.join("sled"));
            });
        }
        let purged = self.store.log().purge_point().unwrap().map(|point| point.0);
        let snapshots = self.store.snapshots();
        if let Some(newest) = snapshots.newest()
            && snapshots.second_newest() >= purged
        {
            copy("without-newest", &|path| {
                fs::remove_dir_all(path.join("sled")).unwrap();
                let newest = path.join(format!("snapshots/{newest:016}.snapshot"));
                fs::write(newest, b"damaged").unwrap();
            });
        }
        let older = self.folder.path().join(format!("older-{}", self.crashes));
        copy_folder(&as_is.join("sled"), &older);
        self.older_tables = Some(older);
        self.check("as-is", &as_is);
        fs::remove_dir_all(copies).unwrap();
        self.crashes += 1;
    }

    fn check(&self, name: &str, path: &Path) {
        let store = Store::open(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let loaded = load(&store).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut feed = match &loaded.mark {
            Some(mark) => Feed::from(loaded.db, mark),
            None => Feed::default(),
        };
        let entries = store.log().read(feed.applied, u64::MAX, usize::MAX);
        for (index, bytes) in entries.unwrap() {
            assert_eq!(index, feed.applied, "{name}: the log leaves a gap");
            let events = decode("events", &bytes).unwrap();
            feed.apply(&store.registrations(), events);
        }
        assert!(
            feed.applied >= self.acknowledged,
            "{name}: {} of {} acknowledged batches",
            feed.applied,
            self.acknowledged
        );
        let expected = feed.applied.checked_sub(1);
        let expected = expected.map_or(0, |last| self.history[last as usize].1);
        assert_eq!(feed.db.state_hash(), expected, "{name}");
        feed.write(&store.registrations());
        store.close().unwrap();
        if loaded.rebuilt.is_none() {
            return;
        }
        let store = Store::open(path).unwrap();
        let loaded = load(&store).unwrap();
        assert_eq!(loaded.db.state_hash(), expected, "{name}, again");
        assert_eq!(loaded.rebuilt, None, "{name}, again");
    }
}

#[test]
fn nothing_acknowledged_depends_on_the_tables() {
    for seed in seeds() {
        let mut story = Story::begin(seed);
        for _ in 0..STEPS {
            story.step();
        }
        story.crash();
        println!(
            "seed {seed}: {} batches, {} crashes",
            story.acknowledged, story.crashes
        );
        assert!(story.acknowledged > 10 && story.crashes > 5);
    }
}
