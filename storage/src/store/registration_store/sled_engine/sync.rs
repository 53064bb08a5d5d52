//! Makes sled's files durable, and notices a flush that hangs.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::{Inner, LARGEST_SMALL_VALUE, into_error};
use crate::disk::fs::{parent_of, sync_folder};
use crate::disk::write_gate::WriteGate;
use crate::error::{Error, Result};

/// How often the watcher looks for a flush that takes long.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// What is needed to sync sled's files beyond its own `flush`.
pub(super) struct Syncer {
    folder: PathBuf,
    syncing: Mutex<Syncing>,
    /// Counts starts and ends of flushes, so it is odd while one is running.
    flushes: AtomicU64,
    /// Whether values were written that may be in files of their own.
    large_values: AtomicBool,
}

struct Syncing {
    /// Our own descriptor: the kernel reports a write error once per descriptor, so sled cannot
    /// consume the report meant for us.
    file: File,
    /// Blob files that were synced.
    blobs: HashSet<OsString>,
}

impl Syncer {
    /// For the files in sled's folder.
    pub(super) fn new(folder: PathBuf) -> Result<Syncer> {
        let file_path = folder.join("db");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&file_path)
            .map_err(Error::io("open", &file_path))?;
        Ok(Syncer {
            folder,
            syncing: Mutex::new(Syncing {
                file,
                blobs: HashSet::new(),
            }),
            flushes: AtomicU64::new(0),
            // An earlier process may have written some.
            large_values: AtomicBool::new(true),
        })
    }

    /// Makes everything written so far survive a power failure. A failure closes the gate.
    pub(super) fn sync(&self, db: &sled::Db, gate: &WriteGate) -> Result<()> {
        let mut syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        // Checked under the lock: the sync before this one may have failed.
        gate.check()?;
        let outcome = self.flush_and_sync(db, gate, &mut syncing);
        gate.close_if_failed(outcome)
    }

    fn flush_and_sync(&self, db: &sled::Db, gate: &WriteGate, syncing: &mut Syncing) -> Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        let flushed = db.flush();
        self.flushes.fetch_add(1, Ordering::Relaxed);
        flushed.map_err(|error| into_error("sync", gate.data_path(), error))?;
        if self.large_values.load(Ordering::Acquire) {
            self.sync_blobs(&mut syncing.blobs)?;
        }
        syncing
            .file
            .sync_data()
            .map_err(Error::io("sync", &self.folder))
    }

    /// Notes that a value may end up in a file of its own. Listing a folder takes as long as
    /// syncing a small write, so it is done only if that has happened.
    pub(super) fn note_value(&self, value: &[u8]) {
        if value.len() > LARGEST_SMALL_VALUE {
            self.large_values.store(true, Ordering::Release);
        }
    }

    /// All values in files of their own are synced.
    pub(super) fn large_values_are_synced(&self) {
        self.large_values.store(false, Ordering::Release);
    }

    fn sync_blobs(&self, synced: &mut HashSet<OsString>) -> Result<()> {
        let folder = self.folder.join("blobs");
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

    /// Syncs the files' names, and the settings, which sled writes once and never syncs.
    pub(super) fn sync_names(&self) -> Result<()> {
        let settings = self.folder.join("conf");
        File::open(&settings)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("sync", &settings))?;
        sync_folder(&self.folder)?;
        sync_folder(parent_of(&self.folder))
    }
}

/// Starts a thread that ends with the engine.
pub(super) fn watch_flushes(engine: &Arc<Inner>) -> std::io::Result<()> {
    let engine = Arc::downgrade(engine);
    let thread = thread::Builder::new().name("flush-watch".into());
    thread.spawn(move || watch(&engine)).map(drop)
}

/// Helps a flush that takes long to find out whether a write has failed, by calling another: after
/// one second, two, four, and so on, since a slow disk holds up the other one too.
fn watch(engine: &Weak<Inner>) {
    let (mut seen, mut looks, mut next) = (0, 0u64, 1);
    loop {
        thread::sleep(WATCH_INTERVAL);
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let now = engine.syncer.flushes.load(Ordering::Relaxed);
        if now != seen || now % 2 == 0 {
            (seen, looks, next) = (now, 0, 1);
            continue;
        }
        looks += 1;
        if looks == next {
            next *= 2;
            tracing::warn!("disk sync has not finished after {looks} s");
            let db = engine.db.clone();
            // Its outcome reaches the flush that waits. Without a thread, a later look retries.
            let _ = thread::Builder::new().spawn(move || drop(db.flush()));
        }
    }
}

#[cfg(test)]
impl Syncer {
    /// Makes every later sync fail: /dev/null cannot be synced.
    pub(super) fn break_sync(&self) {
        self.syncing.lock().unwrap().file = File::open("/dev/null").unwrap();
    }
}
