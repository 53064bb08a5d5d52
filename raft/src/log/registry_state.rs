//! Holds the registry in memory: changed by the state machine, read by all.

use std::sync::{PoisonError, RwLock};

use raftlookupd_storage::registration_db::RegistrationDb;
use tokio::sync::watch;

use crate::types::LogId;

/// Up to where the log is applied, and the state hash there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AppliedPoint {
    pub(crate) log_id: Option<LogId>,
    pub(crate) state_hash: u128,
}

/// Shared by the state machine and all readers.
pub(crate) struct RegistryState {
    db: RwLock<RegistrationDb>,
    applied: watch::Receiver<AppliedPoint>,
}

impl RegistryState {
    /// A registry, and up to where it has the log applied.
    pub(crate) fn new(db: RegistrationDb, applied: watch::Receiver<AppliedPoint>) -> Self {
        RegistryState {
            db: RwLock::new(db),
            applied,
        }
    }

    /// Queries have to be short: they hold up the state machine, and with it all other readers.
    pub(crate) fn read<T>(&self, query: impl FnOnce(&RegistrationDb) -> T) -> T {
        // A panic of a reader leaves the registry as it was; one of the writer stops the node.
        query(&self.db.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut RegistrationDb) -> T) -> T {
        change(&mut self.db.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last entry that is applied as a whole. What is read may show parts of the next.
    pub(crate) fn point(&self) -> AppliedPoint {
        *self.applied.borrow()
    }

    /// The index of the last entry applied; 0 if there is none.
    pub(crate) fn applied(&self) -> u64 {
        self.applied_log_id().map_or(0, |id| id.index)
    }

    pub(crate) fn applied_log_id(&self) -> Option<LogId> {
        self.point().log_id
    }

    /// Waits until the index is applied; `false` if the state machine has ended.
    pub(crate) async fn wait_applied(&self, index: u64) -> bool {
        let mut applied = self.applied.clone();
        let reaches = |applied: &AppliedPoint| applied.log_id.map_or(0, |id| id.index) >= index;
        applied.wait_for(reaches).await.is_ok()
    }
}
