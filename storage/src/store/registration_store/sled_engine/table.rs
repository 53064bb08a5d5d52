//! Reads and writes one ordered table: points, ranges, atomic batches.

use super::Engine;
use crate::error::Result;

/// The changes whose leftovers one step of the collector frees, with a margin.
const FREED_AT_ONCE: usize = 64;

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// A key and its new value; `None` removes it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// One ordered table. Clones are handles on the same table.
#[derive(Clone)]
pub(crate) struct Table {
    tree: sled::Tree,
    engine: Engine,
}

impl Table {
    pub(super) fn new(tree: sled::Tree, engine: Engine) -> Table {
        Table { tree, engine }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.tree.get(key);
        let value = value.map_err(|error| self.engine.error("read", error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Sets one key.
    pub(crate) fn insert(&self, key: &[u8], value: Vec<u8>) -> Result<()> {
        self.engine.gate().check()?;
        self.engine.0.syncer.note_value(&value);
        let outcome = self.tree.insert(key, value);
        self.engine.written(outcome.map(|_| ()))
    }

    /// Makes all changes or, after a crash, none. They have no order: if a key occurs several
    /// times, its last change counts.
    pub(crate) fn batch(&self, changes: impl IntoIterator<Item = Change>) -> Result<()> {
        let mut changes = changes.into_iter().peekable();
        let first = changes.next();
        if changes.peek().is_none()
            && let Some((key, Some(value))) = first
        {
            // sled marks the start of a batch with a write of its own; one value needs none.
            return self.insert(&key, value);
        }
        self.engine.gate().check()?;
        let mut batch = sled::Batch::default();
        let mut count = 0;
        for (key, value) in first.into_iter().chain(changes) {
            count += 1;
            match value {
                Some(value) => {
                    self.engine.0.syncer.note_value(&value);
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
            // sled rejects a range that ends before it starts.
            Some(to) if to <= from => self.tree.range::<&[u8], _>(from..from),
            Some(to) => self.tree.range(from..to),
            None => self.tree.range(from..),
        };
        pairs.map(move |pair| match pair {
            Ok((key, value)) => Ok((key.to_vec(), value.to_vec())),
            Err(error) => Err(engine.error("read", error)),
        })
    }

    /// Removes the first `limit` keys of a range in one batch. Returns the last key removed, or
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

/// Frees what a batch of this many changes has replaced in memory. sled leaves that to
/// crossbeam-epoch's collector, which does a little with each access of a table, and falls behind
/// indefinitely where one access changes thousands of rows.
fn free_replaced(changes: usize) {
    for _ in 0..=changes / FREED_AT_ONCE {
        crossbeam_epoch::pin().flush();
    }
}
