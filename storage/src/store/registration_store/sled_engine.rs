//! The only folder that names sled: ordered tables of bytes, atomic batches, one `sync`.
//!
//! Leaving sled means rewriting this folder. What the registry store relies on:
//!
//! - A write is visible to every handle at once. Writes reach the disk in the order in which they
//!   were made, so a crash loses a suffix of them.
//! - After a crash, a batch on one table is there as a whole or not at all.
//! - What was written before [`Engine::sync`] began is durable when it returns.
//! - After the first failed write or sync, nothing is written: see [`WriteGate`].
//!
//! # What sled needs from us
//! - `flush()` ends in `sync_file_range`, which neither flushes the disk's own cache nor writes
//!   the file's metadata: it survives `kill -9`, but not a power failure (spacejam/sled#1452).
//!   So [`Engine::sync`] adds `fdatasync` on sled's `db` file.
//! - sled puts a page larger than a quarter of a segment (128 KiB) into a file of its own in
//!   `blobs/`, never syncs that file, and silently skips it if it is missing later. A leaf holds
//!   up to 17 values, so values of up to [`LARGEST_SMALL_VALUE`] bytes never get there: callers
//!   keep to that limit. Once a larger value was written, [`Engine::sync`] looks for such files
//!   and syncs them.
//! - When a write fails, sled may never wake the thread that waits in `flush()`; another call of
//!   `flush()` does. So a watcher thread makes one when a call takes long.
//! - It panics on some damaged files: see [`guarded`].
//! - Its recovery silently cuts off what it cannot read. So damage is recognised one layer up, by
//!   what is missing.

mod sync;
mod table;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::write_gate::WriteGate;
use crate::error::{Error, Result};
use crate::store::registration_store::expendable::{FOLDER, remove_leftovers};
use sync::Syncer;
pub(super) use table::{Change, Table};

/// Values of up to this many bytes stay in the synced file, whatever their neighbours are.
pub(super) const LARGEST_SMALL_VALUE: usize = 4096;

/// sled's own default is 1 GB.
const CACHE_BYTES: u64 = 64 << 20;

/// How long the threads of a previous handle may take to release sled's lock.
const REOPEN_PATIENCE: Duration = Duration::from_secs(5);

/// All tables of one data path. Clones are handles on the same tables.
#[derive(Clone)]
pub(super) struct Engine(Arc<Inner>);

struct Inner {
    // First: fields are dropped in order, and the data path's lock, held by the gate, goes last.
    db: sled::Db,
    syncer: Syncer,
    gate: WriteGate,
}

impl Engine {
    /// Opens or creates the tables in a folder of the gate's data path.
    pub(super) fn open(gate: &WriteGate) -> Result<Engine> {
        let data_path = gate.data_path();
        let folder = data_path.join(FOLDER);
        remove_leftovers(&folder)?;
        let db = guarded(data_path, || open_db(data_path, &folder))?;
        let engine = Engine(Arc::new(Inner {
            db,
            syncer: Syncer::new(folder)?,
            gate: gate.clone(),
        }));
        sync::watch_flushes(&engine.0).map_err(Error::io("start a thread for", data_path))?;
        // What a killed process wrote is read back from the page cache, durable or not.
        engine.sync()?;
        engine.0.syncer.sync_names()?;
        engine.0.syncer.large_values_are_synced();
        Ok(engine)
    }

    /// The table of that name, created if need be.
    pub(super) fn table(&self, name: &str) -> Result<Table> {
        let tree = self
            .0
            .db
            .open_tree(name)
            .map_err(|error| self.error("open", error))?;
        Ok(Table::new(tree, self.clone()))
    }

    /// The names of all tables.
    pub(super) fn table_names(&self) -> Vec<String> {
        let names = self.0.db.tree_names();
        names
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// Removes a table. Cheap only if it was emptied with [`Table::remove_some`] before.
    pub(super) fn drop_table(&self, name: &str) -> Result<()> {
        self.0.gate.check()?;
        self.written(self.0.db.drop_tree(name).map(|_| ()))
    }

    /// Makes everything written so far survive a power failure.
    pub(super) fn sync(&self) -> Result<()> {
        self.0.syncer.sync(&self.0.db, &self.0.gate)
    }

    /// The outcome of a write. A failed one may have been done in part, and closes the gate.
    fn written(&self, outcome: sled::Result<()>) -> Result<()> {
        let outcome = outcome.map_err(|error| self.error("write", error));
        self.0.gate.close_if_failed(outcome)
    }

    /// The size of all files. It never shrinks: freed space is used again.
    pub(super) fn size_on_disk(&self) -> Result<u64> {
        self.0
            .db
            .size_on_disk()
            .map_err(|error| self.error("measure", error))
    }

    /// The gate that all writes pass.
    pub(super) fn gate(&self) -> &WriteGate {
        &self.0.gate
    }

    fn error(&self, action: &'static str, error: sled::Error) -> Error {
        into_error(action, self.0.gate.data_path(), error)
    }
}

/// Runs the first read of a store, and turns a panic into [`Error::Corrupt`]: sled has assertions
/// that a damaged file violates.
pub(super) fn guarded<T>(data_path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
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

fn open_db(data_path: &Path, folder: &Path) -> Result<sled::Db> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(CACHE_BYTES)
        // Only `Engine::sync` flushes.
        .flush_every_ms(None);
    let deadline = Instant::now() + REOPEN_PATIENCE;
    loop {
        match config.open() {
            // We hold the data path's own lock, so sled's is held by threads of a handle in this
            // process that was just dropped.
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
        // sled's messages can span several lines; ours are one.
        other => {
            let reason = other
                .to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            Error::corrupt(data_path, format!("sled reports: {reason}"))
        }
    }
}
