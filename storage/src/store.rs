//! Opens a data path: locks it, checks it, and hands out the log and the registry.
//!
//! Contents of a data path:
//!
//! | name | contents |
//! |---|---|
//! | `LOCK` | locked while a process uses the path |
//! | `format` | the format version of everything below, see [`FORMAT`] |
//! | `durable-mark` | the vote, and the index up to which log entries were durable |
//! | `log/` | the Raft log, in numbered segments |
//! | `snapshots/` | the last two snapshots of the registry |
//! | `sled/` | the registry, expendable: snapshot and log are the truth |
//! | `sled.damaged/` | the tables that were set aside last |
//! | `set-aside-1/` | the contents of the data path before the member began anew |
//!
//! Other crates may keep their own records beside these.

mod layout;
mod loading;
pub mod registration_store;
mod set_aside;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::JoinHandle;

use crate::disk::fs::create_private_folder;
use crate::disk::write_gate::WriteGate;
use crate::error::{Error, Result};
use crate::log::LogTable;
use crate::snapshots::SnapshotFiles;
pub use layout::FORMAT_FILE;
pub use loading::LoadedRegistry;
use registration_store::RegistrationStore;
use registration_store::expendable::{is_damage, set_aside as set_tables_aside};
pub use set_aside::set_aside;

/// The format version of the data path that this code writes.
pub const FORMAT: u32 = 5;

/// The oldest format version that this code reads. Format 4 had no snapshot files; they are written
/// when the registry is first loaded.
pub const OLDEST_FORMAT: u32 = 4;

/// A data path that this process has opened exclusively.
pub struct Store {
    data_path: PathBuf,
    gate: WriteGate,
    log: LogTable,
    snapshots: SnapshotFiles,
    registrations: RegistrationStore,
    /// The format of what was found.
    format: u32,
    /// Why the tables that were found could not be opened.
    tables_lost: Mutex<Option<String>>,
    /// `None` after it has ended.
    sync_thread: Option<JoinHandle<Result<()>>>,
}

impl Store {
    /// Opens the data path, and creates it, accessible to its owner only, if it does not exist.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process uses it, [`Error::NewerFormat`] or
    /// [`Error::OlderFormat`] if another version wrote it, [`Error::Corrupt`] if something is
    /// missing or damaged, [`Error::Io`] if it cannot be created, read or written.
    pub fn open(data_path: &Path) -> Result<Store> {
        create_private_folder(data_path)?;
        let gate = WriteGate::new(data_path, layout::lock(data_path)?);
        set_aside::finish(data_path)?;
        let found = layout::check_or_create(data_path)?;
        let mut tables_lost = found
            .tables_missing
            .then(|| "its tables are missing".into());
        let log = LogTable::open(&gate, found.mark)?;
        let snapshots = SnapshotFiles::open(&gate)?;
        let registrations = match RegistrationStore::open(&gate) {
            Err(error) if is_damage(&error) => {
                let reason = loading::reason_of(&error);
                loading::check_rebuildable(data_path, &log, &snapshots, &reason)?;
                loading::log_set_aside(set_tables_aside(data_path)?, &reason);
                tables_lost = Some(reason);
                RegistrationStore::open(&gate)?
            }
            opened => opened?,
        };
        let sync_thread = log.start()?;
        Ok(Store {
            data_path: data_path.to_path_buf(),
            gate,
            log,
            snapshots,
            registrations,
            format: found.format,
            tables_lost: Mutex::new(tables_lost),
            sync_thread: Some(sync_thread),
        })
    }

    /// The log and the vote.
    pub fn log(&self) -> LogTable {
        self.log.clone()
    }

    /// The registry's tables. [`load_registry`](Self::load_registry) comes first.
    pub fn registrations(&self) -> RegistrationStore {
        self.registrations.clone()
    }

    /// The snapshots of the registry.
    pub fn snapshots(&self) -> SnapshotFiles {
        self.snapshots.clone()
    }

    /// The path.
    pub fn data_path(&self) -> &Path {
        &self.data_path
    }

    /// The size of log, snapshots and registry on disk. The log shrinks when it is purged. The
    /// tables' files shrink only at a start: until then, freed space is reused.
    ///
    /// # Errors
    /// [`Error::Io`] if the files cannot be measured.
    pub fn disk_bytes(&self) -> Result<u64> {
        let files = self.snapshots.disk_bytes()? + self.log.disk_bytes()?;
        Ok(files + self.registrations.disk_bytes()?)
    }

    /// Makes everything durable and ends the threads. Other handles on log and registry can still
    /// read, but no longer write. The lock is released with the last of them.
    ///
    /// # Errors
    /// [`Error::Io`] if something could not be made durable, now or before.
    pub fn close(mut self) -> Result<()> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<()> {
        let Some(thread) = self.sync_thread.take() else {
            return Ok(());
        };
        self.registrations.shut_down();
        self.log.shut_down();
        let outcome = if thread.thread().id() == std::thread::current().id() {
            // Dropped by an append's callback: the thread cannot wait for itself.
            Ok(())
        } else {
            thread.join().unwrap_or_else(|_| {
                let source = std::io::Error::other("the log's sync thread panicked");
                Err(Error::io("sync", &self.data_path)(source))
            })
        };
        let outcome = outcome.and(self.registrations.sync());
        self.gate.close("the store is closed");
        outcome
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::warn!(%error, "the store was not closed cleanly; the next start recovers it");
        }
    }
}
