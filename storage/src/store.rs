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
//! | `sled/` | the registry |
//! | `set-aside-1/` | the contents of the data path before the member began anew |
//!
//! Other crates may keep their own records beside these.

mod layout;
pub mod registration_store;
mod set_aside;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::disk::fs::create_private_folder;
use crate::disk::write_gate::WriteGate;
use crate::error::{Error, Result};
use crate::log::LogTable;
pub use layout::FORMAT_FILE;
use registration_store::RegistrationStore;
pub use set_aside::set_aside;

/// The format version of the data path that this code writes and reads.
pub const FORMAT: u32 = 4;

/// A data path that this process has opened exclusively.
pub struct Store {
    data_path: PathBuf,
    gate: WriteGate,
    log: LogTable,
    registrations: RegistrationStore,
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
        let mark = layout::check_or_create(data_path)?;
        let registrations = RegistrationStore::open(&gate)?;
        let applied = registrations.clone();
        let (log, sync_thread) = LogTable::open(&gate, mark, move || applied.sync())?;
        let store = Store {
            data_path: data_path.to_path_buf(),
            gate,
            log,
            registrations,
            sync_thread: Some(sync_thread),
        };
        store.check_registry_is_there()?;
        Ok(store)
    }

    /// The log and the vote.
    pub fn log(&self) -> LogTable {
        self.log.clone()
    }

    /// The registry.
    pub fn registrations(&self) -> RegistrationStore {
        self.registrations.clone()
    }

    /// The path.
    pub fn data_path(&self) -> &Path {
        &self.data_path
    }

    /// The size of log and registry on disk. The log shrinks when it is purged. The registry's
    /// files never shrink: freed space is reused.
    ///
    /// # Errors
    /// [`Error::Io`] if the files cannot be measured.
    pub fn disk_bytes(&self) -> Result<u64> {
        Ok(self.registrations.disk_bytes()? + self.log.disk_bytes()?)
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

    /// Checks that the registry exists if the log was purged: only the registry has what the purged
    /// entries did.
    fn check_registry_is_there(&self) -> Result<()> {
        match self.log.purge_point()? {
            Some((upto, _)) if self.registrations.is_empty() => Err(Error::corrupt(
                &self.data_path,
                format!("the log was purged up to entry {upto}, but there is no registry"),
            )),
            _ => Ok(()),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::warn!(%error, "the store was not closed cleanly; the next start recovers it");
        }
    }
}
