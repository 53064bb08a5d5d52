//! Notes which rows an event changed, and keeps the state hash in step.

use crate::error::Result;
use crate::rows::{Row, RowChange, row_hash};

/// The rows changed so far.
pub(super) struct RowLog {
    changes: Vec<RowChange>,
    state_hash: u128,
}

impl RowLog {
    pub(super) fn starting_from(state_hash: u128) -> Self {
        RowLog {
            changes: Vec::new(),
            state_hash,
        }
    }

    /// A row that was not there.
    pub(super) fn insert(&mut self, row: &Row) -> Result<()> {
        let (key, value) = (row.key(), row.value()?);
        self.state_hash = self.state_hash.wrapping_add(row_hash(&key, &value));
        self.changes.push(RowChange {
            key,
            value: Some(value),
        });
        Ok(())
    }

    /// A row that was there, as it was.
    pub(super) fn remove(&mut self, row: &Row) -> Result<()> {
        let (key, value) = (row.key(), row.value()?);
        self.state_hash = self.state_hash.wrapping_sub(row_hash(&key, &value));
        self.changes.push(RowChange { key, value: None });
        Ok(())
    }

    /// A row that was there, as it was and as it is now; both have the same key.
    pub(super) fn replace(&mut self, old: &Row, new: &Row) -> Result<()> {
        let old_hash = row_hash(&old.key(), &old.value()?);
        self.state_hash = self.state_hash.wrapping_sub(old_hash);
        self.insert(new)
    }

    /// How many rows changed so far.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn finish(self) -> (Vec<RowChange>, u128) {
        (self.changes, self.state_hash)
    }
}
