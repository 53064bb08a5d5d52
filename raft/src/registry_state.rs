//! The registry in memory: written by the state machine, read by everyone.

use std::sync::{PoisonError, RwLock};

use raftlookupd_storage::registration_db::RegistrationDb;
use tokio::sync::watch;

/// Shared by the state machine and all readers.
pub(crate) struct RegistryState {
    db: RwLock<RegistrationDb>,
    applied: watch::Sender<u64>,
}

impl RegistryState {
    /// A registry that has applied the log up to this index; 0 if none of it.
    pub(crate) fn new(db: RegistrationDb, applied: u64) -> Self {
        RegistryState {
            db: RwLock::new(db),
            applied: watch::Sender::new(applied),
        }
    }

    pub(crate) fn read<T>(&self, query: impl FnOnce(&RegistrationDb) -> T) -> T {
        // A panic of a reader leaves the registry as it was; one of the writer stops the node.
        query(&self.db.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut RegistrationDb) -> T) -> T {
        change(&mut self.db.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says that what [`read`](Self::read) shows has this index of the log applied.
    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.send_replace(index);
    }

    pub(crate) fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until the index is applied.
    pub(crate) async fn wait_applied(&self, index: u64) {
        let mut applied = self.applied.subscribe();
        // The sender lives as long as self; there is no error to handle.
        let _ = applied.wait_for(|applied| *applied >= index).await;
    }
}
