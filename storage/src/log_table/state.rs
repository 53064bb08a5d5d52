//! What the log's handles and its thread know together. PURE.

use std::collections::BTreeMap;
use std::io::Result as IoResult;

/// Called when an append is durable or failed to be.
pub(super) type Done = Box<dyn FnOnce(IoResult<()>) + Send>;

/// Which entries there are, and what the thread has to do.
#[derive(Default)]
pub(super) struct State {
    /// The live entries, those above the purge point, and their bytes.
    pub(super) sizes: BTreeMap<u64, usize>,
    /// Sum of `sizes`.
    pub(super) live_bytes: u64,
    /// The purge point.
    pub(super) purged: Option<(u64, Vec<u8>)>,
    /// Counts truncations: what was found out before one is worth nothing after it.
    pub(super) epoch: u64,
    /// Appends that wait for a sync.
    pub(super) pending: Vec<Done>,
    /// Up to here the log is durable.
    pub(super) synced: Option<u64>,
    /// There may be purged entries to delete.
    pub(super) sweep: bool,
    /// The thread is to end.
    pub(super) closing: bool,
}

impl State {
    pub(super) fn purged_index(&self) -> Option<u64> {
        self.purged.as_ref().map(|purged| purged.0)
    }

    /// The index after the purge point.
    pub(super) fn first_possible(&self) -> u64 {
        self.purged_index()
            .map_or(0, |purged| purged.saturating_add(1))
    }

    pub(super) fn last_entry(&self) -> Option<u64> {
        self.sizes.last_key_value().map(|(index, _)| *index)
    }

    /// The last entry, or the purge point if there is none above it.
    pub(super) fn end(&self) -> Option<u64> {
        self.last_entry().or(self.purged_index())
    }

    pub(super) fn is_live(&self, index: u64) -> bool {
        self.sizes.contains_key(&index)
    }

    /// First and last index of what can be read without a hole of `start..end`.
    pub(super) fn contiguous(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        if start >= end {
            return None;
        }
        let mut indexes = self.sizes.range(start..end).map(|(index, _)| *index);
        let first = indexes.next()?;
        let mut last = first;
        for index in indexes {
            if index != last + 1 {
                break;
            }
            last = index;
        }
        Some((first, last))
    }

    pub(super) fn add(&mut self, index: u64, bytes: usize) {
        self.sizes.insert(index, bytes);
        self.live_bytes += bytes as u64;
    }

    pub(super) fn truncate(&mut self, from: u64) {
        self.epoch += 1;
        let removed = self.sizes.split_off(&from);
        self.forget(&removed);
        self.synced = self.synced.min(from.checked_sub(1));
    }

    pub(super) fn purge(&mut self, upto: u64, point: Vec<u8>) {
        let kept = match upto.checked_add(1) {
            Some(first) => self.sizes.split_off(&first),
            None => BTreeMap::new(),
        };
        let removed = std::mem::replace(&mut self.sizes, kept);
        self.forget(&removed);
        self.purged = Some((upto, point));
        self.sweep = true;
    }

    fn forget(&mut self, removed: &BTreeMap<u64, usize>) {
        let bytes: usize = removed.values().sum();
        self.live_bytes -= bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_entries(indexes: impl IntoIterator<Item = u64>) -> State {
        let mut state = State::default();
        for index in indexes {
            state.add(index, 10);
        }
        state
    }

    #[test]
    fn reads_up_to_a_hole() {
        let state = with_entries([3, 4, 5, 8]);
        for (start, end, expected) in [
            (0, 9, Some((3, 5))),
            (4, 5, Some((4, 4))),
            (5, 5, None),
            (6, 3, None),
            (6, 9, Some((8, 8))),
            (9, u64::MAX, None),
        ] {
            assert_eq!(state.contiguous(start, end), expected, "{start}..{end}");
        }
    }

    #[test]
    fn truncating_takes_back_what_was_synced() {
        let mut state = with_entries(0..10);
        state.synced = Some(9);
        state.truncate(4);
        assert_eq!((state.synced, state.end()), (Some(3), Some(3)));
        assert_eq!(state.live_bytes, 40);
        state.truncate(0);
        assert_eq!((state.synced, state.end()), (None, None));
        assert_eq!(state.live_bytes, 0);
    }

    #[test]
    fn purging_beyond_the_end_moves_the_end() {
        let mut state = with_entries(0..10);
        state.purge(5, vec![5]);
        assert_eq!((state.end(), state.live_bytes), (Some(9), 40));
        state.purge(20, vec![20]);
        assert_eq!((state.end(), state.live_bytes), (Some(20), 0));
        assert_eq!((state.last_entry(), state.first_possible()), (None, 21));
    }
}
