//! Copies frozen tables into a snapshot file.

use std::sync::atomic::Ordering;

use super::generation::{Record, for_each_in};
use super::sled_engine::{Engine, Table, guarded};
use super::{RegistrationStore, in_registry};
use crate::error::{Error, Result};
use crate::registry::db::RegistrationDb;
use crate::snapshots::SnapshotFiles;

/// Tables that hold the registry as it was when they were frozen. They thaw when this is dropped.
pub struct Frozen {
    store: RegistrationStore,
    engine: Engine,
    rows: Table,
    state_hash: u128,
    mark: Vec<u8>,
}

impl Frozen {
    pub(super) fn new(
        store: &RegistrationStore,
        engine: &Engine,
        rows: Table,
        db: &RegistrationDb,
        mark: &[u8],
    ) -> Frozen {
        Frozen {
            store: store.clone(),
            engine: engine.clone(),
            rows,
            state_hash: db.state_hash(),
            mark: mark.to_vec(),
        }
    }

    /// Writes the snapshot file that ends with the entry at `index`, durably. Returns its length.
    /// The tables are durable up to there, too.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the tables are damaged, [`Error::Io`] if the file cannot be written or
    /// the store is being closed.
    pub fn write_to(self, files: &SnapshotFiles, index: u64) -> Result<u64> {
        // First: after a power failure, tables that end before the newest file are rebuilt.
        self.engine.sync()?;
        let data_path = self.store.0.data_path();
        let stopping = &self.store.0.stopping;
        let written = files.write(index, self.state_hash, &self.mark, |writer| {
            guarded(data_path, || {
                for_each_in(&self.rows, |record| {
                    if stopping.load(Ordering::Relaxed) {
                        let stopped = std::io::Error::other("the store is being closed");
                        return Err(Error::io("copy", data_path)(stopped));
                    }
                    match record {
                        Record::Row(key, value) => writer.row(&key, &value),
                        Record::Topic(name, packed) => writer.topic(&name, &packed),
                    }
                })
            })
        });
        // What cannot be encoded, or does not add up, is in the tables.
        written.map_err(|error| in_registry(data_path, error))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.store.0.current().frozen = false;
    }
}
