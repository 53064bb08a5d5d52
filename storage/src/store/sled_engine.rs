//! The only file that names sled: ordered tables of bytes, atomic batches, one `sync`.
//!
//! Leaving sled means rewriting this file. What the rest of the crate relies on:
//!
//! - Writes are seen at once by every handle, and reach the disk in the order in which they
//!   were made: what a crash loses is a tail.
//! - A batch on one table is there after a crash as a whole or not at all.
//! - What was written before [`Engine::sync`] began is durable when it returns.
//! - After one failed write or sync nothing can be written any more. The kernel may have
//!   dropped the pages that it could not write and call the next fsync a success
//!   ("fsyncgate"), so only a restart, which reads the disk again, knows what is there.
//!
//! # What sled needs from us
//! - `flush()` ends in `sync_file_range`, which neither flushes the disk's own cache nor writes
//!   the file's metadata: it survives `kill -9`, but not a power failure (spacejam/sled#1452).
//!   So [`Engine::sync`] adds `fdatasync` on sled's `db` file.
//! - A page larger than a quarter of a segment (128 KiB) goes to a file of its own in `blobs/`.
//!   sled never syncs that file and skips it without a word if it is missing later. A leaf
//!   holds up to 17 values, so values of up to [`LARGEST_SMALL_VALUE`] bytes never get there:
//!   callers keep to that. Should a larger one slip in, such files are looked for and synced
//!   here from then on.
//! - When a write fails it may forget to wake who waits in `flush()`, for ever; another call of
//!   `flush()` does. So a thread looks after calls that take long.
//! - It panics on some damaged files: see [`guarded`].
//! - Its recovery cuts off what it cannot read, before anyone is asked. So damage is
//!   recognised one floor up, by what must be there and is not.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Values of up to this many bytes stay in the synced file, whatever their neighbours are.
pub(crate) const LARGEST_SMALL_VALUE: usize = 4096;

/// The engine's folder in the data path.
pub(crate) const FOLDER: &str = "sled";

/// The changes whose leavings one step of the collector frees, with a margin.
const FREED_AT_ONCE: usize = 64;

/// sled's own default is 1 GB.
const CACHE_BYTES: u64 = 64 << 20;

/// How long a previous handle's threads may take to let go of the file.
const REOPEN_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether a flush takes long.
const LOOK: Duration = Duration::from_secs(1);

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// A key and its new value; `None` removes it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// All tables of one data path. A clone is another handle on the same.
#[derive(Clone)]
pub(crate) struct Engine(Arc<Inner>);

struct Inner {
    // First, since fields are dropped in order: the lock goes last.
    db: sled::Db,
    data_path: PathBuf,
    folder: PathBuf,
    syncing: Mutex<Syncing>,
    /// Counts beginnings and ends of flushes, so it is odd while there is one.
    flushes: AtomicU64,
    /// Whether values were written that may stand in files of their own.
    large_values: AtomicBool,
    /// Set once: why nothing may be written any more.
    stopped: OnceLock<String>,
    _lock: File,
}

struct Syncing {
    /// Our own descriptor: the kernel reports a write error once to each, so sled cannot
    /// take away ours.
    file: File,
    /// Blob files that were synced.
    blobs: HashSet<OsString>,
}

impl Engine {
    /// Opens or creates the tables in a folder of `data_path`. `lock` is held until the last
    /// handle is gone.
    pub(crate) fn open(data_path: &Path, lock: File) -> Result<Engine> {
        let folder = data_path.join(FOLDER);
        let db = guarded(data_path, || open_db(data_path, &folder))?;
        let file_path = folder.join("db");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&file_path)
            .map_err(Error::io("open", &file_path))?;
        let engine = Engine(Arc::new(Inner {
            db,
            data_path: data_path.to_path_buf(),
            folder,
            syncing: Mutex::new(Syncing {
                file,
                blobs: HashSet::new(),
            }),
            flushes: AtomicU64::new(0),
            // Another process may have written some.
            large_values: AtomicBool::new(true),
            stopped: OnceLock::new(),
            _lock: lock,
        }));
        let weak = Arc::downgrade(&engine.0);
        thread::Builder::new()
            .name("flush-watch".into())
            .spawn(move || watch_flushes(&weak))
            .map_err(Error::io("start a thread for", data_path))?;
        // What a killed process wrote is read back from the page cache, durable or not.
        engine.sync()?;
        engine.sync_names()?;
        engine.0.large_values.store(false, Ordering::Release);
        Ok(engine)
    }

    /// The table of that name, created if need be.
    pub(crate) fn table(&self, name: &str) -> Result<Table> {
        let tree = self
            .0
            .db
            .open_tree(name)
            .map_err(|error| self.error("open", error))?;
        Ok(Table {
            tree,
            engine: self.clone(),
        })
    }

    /// The names of all tables.
    pub(crate) fn table_names(&self) -> Vec<String> {
        let names = self.0.db.tree_names();
        names
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// Removes a table. Cheap only if it was emptied with [`Table::remove_some`] before.
    pub(crate) fn drop_table(&self, name: &str) -> Result<()> {
        self.check_writable()?;
        self.written(self.0.db.drop_tree(name).map(|_| ()))
    }

    /// Makes everything written so far survive a power failure.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut syncing = self
            .0
            .syncing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Only now: the one before us may have failed.
        self.check_writable()?;
        let outcome = self.flush_and_sync(&mut syncing);
        if let Err(error) = &outcome {
            self.stop_after(error);
        }
        outcome
    }

    fn flush_and_sync(&self, syncing: &mut Syncing) -> Result<()> {
        self.0.flushes.fetch_add(1, Ordering::Relaxed);
        let flushed = self.0.db.flush();
        self.0.flushes.fetch_add(1, Ordering::Relaxed);
        flushed.map_err(|error| self.error("sync", error))?;
        if self.0.large_values.load(Ordering::Acquire) {
            self.sync_blobs(&mut syncing.blobs)?;
        }
        syncing
            .file
            .sync_data()
            .map_err(Error::io("sync", &self.0.folder))
    }

    /// Looking for files in a folder takes as long as syncing a small write, so it is done only
    /// if there may be some; see the module's doc.
    fn note_value(&self, value: &[u8]) {
        if value.len() > LARGEST_SMALL_VALUE {
            self.0.large_values.store(true, Ordering::Release);
        }
    }

    fn sync_blobs(&self, synced: &mut HashSet<OsString>) -> Result<()> {
        let folder = self.0.folder.join("blobs");
        let mut present = HashSet::new();
        let mut grown = false;
        for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let entry = entry.map_err(Error::io("read", &folder))?;
            let name = entry.file_name();
            if !synced.contains(&name) {
                grown = true;
                match File::open(entry.path()).and_then(|file| file.sync_all()) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    outcome => outcome.map_err(Error::io("sync", &entry.path()))?,
                }
            }
            present.insert(name);
        }
        if grown {
            sync_folder(&folder)?;
        }
        *synced = present;
        Ok(())
    }

    /// The files' names, and the settings that sled writes once and never syncs.
    fn sync_names(&self) -> Result<()> {
        let settings = self.0.folder.join("conf");
        File::open(&settings)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("sync", &settings))?;
        sync_folder(&self.0.folder)?;
        sync_folder(&self.0.data_path)
    }

    /// The outcome of a write. A failed one may have been done in part.
    fn written(&self, outcome: sled::Result<()>) -> Result<()> {
        outcome.map_err(|error| {
            let error = self.error("write", error);
            self.stop_after(&error);
            error
        })
    }

    /// The outcome of a write or sync elsewhere: if it failed, everything stops.
    pub(crate) fn stop_if_failed<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.stop_after(error);
        }
        outcome
    }

    fn stop_after(&self, error: &Error) {
        self.stop(&format!("{error}; nothing more is written until a restart"));
    }

    /// From now on every write and every sync fails with this reason.
    pub(crate) fn stop(&self, reason: &str) {
        // Only the first reason counts: the others follow from it.
        let _ = self.0.stopped.set(reason.to_string());
    }

    /// An error if [`Engine::stop`] was called or a sync has failed.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.0.stopped.get() {
            None => Ok(()),
            Some(reason) => Err(Error::Io {
                action: "write to",
                path: self.0.data_path.clone(),
                source: std::io::Error::other(reason.clone()),
            }),
        }
    }

    /// The size of all files. It never shrinks: freed space is used again.
    pub(crate) fn size_on_disk(&self) -> Result<u64> {
        self.0
            .db
            .size_on_disk()
            .map_err(|error| self.error("measure", error))
    }

    /// Where this engine's data is, for errors.
    pub(crate) fn data_path(&self) -> &Path {
        &self.0.data_path
    }

    fn error(&self, action: &'static str, error: sled::Error) -> Error {
        into_error(action, &self.0.data_path, error)
    }
}

/// One ordered table. A clone is another handle on the same.
#[derive(Clone)]
pub(crate) struct Table {
    tree: sled::Tree,
    engine: Engine,
}

impl Table {
    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.tree.get(key);
        let value = value.map_err(|error| self.engine.error("read", error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Sets one key.
    pub(crate) fn insert(&self, key: &[u8], value: Vec<u8>) -> Result<()> {
        self.engine.check_writable()?;
        self.engine.note_value(&value);
        let outcome = self.tree.insert(key, value);
        self.engine.written(outcome.map(|_| ()))
    }

    /// All changes or, after a crash, none. No order is kept among them: a key may stand
    /// in a batch several times, and its last change counts.
    pub(crate) fn batch(&self, changes: impl IntoIterator<Item = Change>) -> Result<()> {
        let mut changes = changes.into_iter().peekable();
        let first = changes.next();
        if changes.peek().is_none()
            && let Some((key, Some(value))) = first
        {
            // sled marks the beginning of a batch by a write of its own; one value needs none.
            return self.insert(&key, value);
        }
        self.engine.check_writable()?;
        let mut batch = sled::Batch::default();
        let mut count = 0;
        for (key, value) in first.into_iter().chain(changes) {
            count += 1;
            match value {
                Some(value) => {
                    self.engine.note_value(&value);
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        let applied = self.tree.apply_batch(batch);
        free_replaced(count);
        self.engine.written(applied)
    }

    /// The pairs from key `from` on, in order, below `to`.
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<Pair>> + use<> {
        let engine = self.engine.clone();
        let pairs = match to {
            // sled takes a range that ends before it starts for an error.
            Some(to) if to <= from => self.tree.range::<&[u8], _>(from..from),
            Some(to) => self.tree.range(from..to),
            None => self.tree.range(from..),
        };
        pairs.map(move |pair| match pair {
            Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
            Err(error) => Err(engine.error("read", error)),
        })
    }

    /// Removes the first `limit` keys of a range in one batch; the last one removed, or
    /// `None` if the range is empty.
    pub(crate) fn remove_some(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<Vec<u8>>> {
        let keys = self.range(from, to).take(limit);
        let keys = keys
            .map(|pair| pair.map(|(key, _)| key))
            .collect::<Result<Vec<_>>>()?;
        let last = keys.last().cloned();
        if last.is_some() {
            self.batch(keys.into_iter().map(|key| (key, None)))?;
        }
        Ok(last)
    }
}

/// Runs what reads a store for the first time, and turns a panic into [`Error::Corrupt`]:
/// sled has assertions that a damaged file runs into.
pub(crate) fn guarded<T>(data_path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    // Unwind safe: whatever the closure was building is dropped, not used again.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        let what = format!("reading it failed unexpectedly ({reason})");
        Err(Error::corrupt(data_path, what))
    })
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("sync", folder))
}

/// Frees what a batch of so many changes has replaced in memory. sled leaves that to the
/// collector of crossbeam-epoch, which does a little with each access of a table, and falls
/// behind for ever where one access changes thousands of rows.
fn free_replaced(changes: usize) {
    for _ in 0..=changes / FREED_AT_ONCE {
        crossbeam_epoch::pin().flush();
    }
}

/// Has a flush that takes long find out whether a write has failed, by another one: after one
/// second, two, four, and so on, since a slow disk holds up the other one too.
fn watch_flushes(engine: &Weak<Inner>) {
    let (mut seen, mut looks, mut next) = (0, 0u64, 1);
    loop {
        thread::sleep(LOOK);
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let now = engine.flushes.load(Ordering::Relaxed);
        if now != seen || now % 2 == 0 {
            (seen, looks, next) = (now, 0, 1);
            continue;
        }
        looks += 1;
        if looks == next {
            next *= 2;
            tracing::warn!("a write to the disk takes long");
            let db = engine.db.clone();
            // Whatever comes of it, the flush that waits hears of it. Without a thread it is tried
            // again later.
            let _ = thread::Builder::new().spawn(move || drop(db.flush()));
        }
    }
}

fn open_db(data_path: &Path, folder: &Path) -> Result<sled::Db> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(CACHE_BYTES)
        // We say when.
        .flush_every_ms(None);
    let deadline = Instant::now() + REOPEN_PATIENCE;
    loop {
        match config.open() {
            // We hold the data path's own lock, so this one is held by threads of a handle
            // that is just being dropped.
            Err(sled::Error::Io(error)) if is_locked(&error) => {
                if Instant::now() >= deadline {
                    return Err(Error::Locked {
                        path: data_path.to_path_buf(),
                    });
                }
                thread::sleep(Duration::from_millis(10));
            }
            outcome => return outcome.map_err(|error| into_error("open", data_path, error)),
        }
    }
}

fn is_locked(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn into_error(action: &'static str, data_path: &Path, error: sled::Error) -> Error {
    match error {
        sled::Error::Io(source) => Error::io(action, data_path)(source),
        sled::Error::Corruption { .. } => Error::corrupt(data_path, "a page cannot be read"),
        // A message of sled's can have several lines; ours are one.
        other => {
            let reason = other
                .to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            Error::corrupt(data_path, format!("the engine says: {reason}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(data_path: &Path) -> Engine {
        let lock = File::create(data_path.join("LOCK")).unwrap();
        Engine::open(data_path, lock).unwrap()
    }

    fn keys(table: &Table) -> Vec<Vec<u8>> {
        let pairs = table.range(b"", None);
        pairs.map(|pair| pair.unwrap().0).collect()
    }

    #[test]
    fn keeps_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        let table = engine.table("fruit").unwrap();
        table.insert(b"b", vec![2]).unwrap();
        table
            .batch([
                (b"a".to_vec(), Some(vec![1])),
                (b"c".to_vec(), Some(vec![3])),
                (b"b".to_vec(), None),
                (b"d".to_vec(), None),
            ])
            .unwrap();
        engine.sync().unwrap();
        drop((table, engine));

        let engine = open(folder.path());
        let table = engine.table("fruit").unwrap();
        assert_eq!(table.get(b"a").unwrap(), Some(vec![1]));
        assert_eq!(table.get(b"b").unwrap(), None);
        let found: Vec<Pair> = table
            .range(b"a", Some(b"c"))
            .map(|pair| pair.unwrap())
            .collect();
        assert_eq!(found, [(b"a".to_vec(), vec![1])]);
        assert_eq!(table.range(b"c", Some(b"a")).count(), 0);
        assert!(engine.size_on_disk().unwrap() > 0);
    }

    #[test]
    fn removes_in_steps() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        let table = engine.table("numbers").unwrap();
        let all = (0..10u8).map(|n| (vec![n], Some(vec![n])));
        table.batch(all).unwrap();
        assert_eq!(
            table.remove_some(&[1], Some(&[4]), 2).unwrap(),
            Some(vec![2])
        );
        assert_eq!(
            table.remove_some(&[1], Some(&[4]), 2).unwrap(),
            Some(vec![3])
        );
        assert_eq!(table.remove_some(&[1], Some(&[4]), 2).unwrap(), None);
        assert_eq!(keys(&table), [[0], [4], [5], [6], [7], [8], [9]]);
    }

    #[test]
    fn a_dropped_table_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        engine
            .table("old")
            .unwrap()
            .insert(b"key", vec![1])
            .unwrap();
        assert!(engine.table_names().contains(&"old".to_string()));
        engine.drop_table("old").unwrap();
        assert!(!engine.table_names().contains(&"old".to_string()));
        assert_eq!(engine.table("old").unwrap().get(b"key").unwrap(), None);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        let table = engine.table("fruit").unwrap();
        table.insert(b"a", vec![1]).unwrap();
        engine.break_sync();
        assert!(engine.sync().is_err());
        for outcome in [
            table.insert(b"b", vec![2]),
            table.batch([(b"b".to_vec(), Some(vec![2]))]),
            engine.sync(),
        ] {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("until a restart"), "{error}");
        }
        assert_eq!(table.get(b"b").unwrap(), None);
    }

    #[test]
    fn values_of_the_allowed_size_never_leave_the_synced_file() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        let table = engine.table("values").unwrap();
        let blobs = || {
            std::fs::read_dir(folder.path().join(FOLDER).join("blobs"))
                .unwrap()
                .count()
        };
        for round in 0..4u8 {
            for n in 0..500u32 {
                table
                    .insert(&n.to_be_bytes(), vec![round; LARGEST_SMALL_VALUE])
                    .unwrap();
            }
            let batch = (500..900u32).map(|n| {
                (
                    n.to_be_bytes().to_vec(),
                    Some(vec![round; LARGEST_SMALL_VALUE]),
                )
            });
            table.batch(batch).unwrap();
            engine.sync().unwrap();
            assert_eq!(blobs(), 0);
        }
        // And a larger one does: the limit is there for a reason.
        table.insert(b"large", vec![1; 200_000]).unwrap();
        engine.sync().unwrap();
        assert_ne!(blobs(), 0);
    }

    #[test]
    fn a_panic_while_reading_is_damage() {
        let error = guarded::<()>(Path::new("data"), || panic!("it broke")).unwrap_err();
        assert!(error.to_string().contains("(it broke)"), "{error}");
    }

    impl Engine {
        /// Lets every later sync fail: /dev/null cannot be synced.
        pub(crate) fn break_sync(&self) {
            self.0.syncing.lock().unwrap().file = File::open("/dev/null").unwrap();
        }
    }
}
