//! Tracks which entries the log has, where they are, and what is durable. PURE.

use std::collections::BTreeMap;
use std::io::Result as IoResult;

use super::record::{Position, entry_length};

/// Called when an append is durable or could not be made so.
pub(super) type Done = Box<dyn FnOnce(IoResult<()>) + Send>;

/// The location of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The position of its record.
    pub(super) position: Position,
    /// The length of the entry alone.
    pub(super) bytes: usize,
}

impl Place {
    /// The length of the whole record.
    pub(super) fn record_bytes(self) -> usize {
        entry_length(self.bytes)
    }
}

/// The entries of the log, and the work for its thread.
#[derive(Default)]
pub(super) struct State {
    /// The live entries: those above the purge point. A higher index has a later position.
    pub(super) entries: BTreeMap<u64, Place>,
    /// The sum of their lengths.
    pub(super) live_bytes: u64,
    /// The purge point.
    pub(super) purged: Option<(u64, Vec<u8>)>,
    /// How far the log is known to be committed.
    pub(super) committed: Option<Vec<u8>>,
    /// Counts truncations: what was learned before one does not hold after it.
    pub(super) epoch: u64,
    /// Appends that wait for a sync.
    pub(super) pending: Vec<Done>,
    /// The durable index: entries up to here survive a crash.
    pub(super) synced: Option<u64>,
    /// A truncation has been made in memory and is not on disk yet.
    pub(super) truncating: bool,
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
        self.entries.last_key_value().map(|(index, _)| *index)
    }

    /// The last entry, or the purge point if there is none above it.
    pub(super) fn end(&self) -> Option<u64> {
        self.last_entry().or(self.purged_index())
    }

    pub(super) fn is_live(&self, index: u64) -> bool {
        self.entries.contains_key(&index)
    }

    /// The first segment that is needed, given the last one: the one with the first live entry.
    /// `None` if no segment may be removed now.
    pub(super) fn first_needed(&self, last: u64) -> Option<u64> {
        if self.truncating {
            // The truncation record is not on disk yet: removing a segment now could leave a hole.
            return None;
        }
        let first = self.entries.first_key_value();
        let needed = first.map_or(last, |(_, place)| place.position.segment);
        debug_assert!(needed <= last, "an entry is in a segment after the last");
        Some(needed)
    }

    /// The entries of `start..end` up to the first hole: as many as fit into `max_bytes`, but at
    /// least one if there is one.
    pub(super) fn select(&self, start: u64, end: u64, max_bytes: usize) -> Vec<(u64, Place)> {
        let mut selected: Vec<(u64, Place)> = Vec::new();
        if start >= end {
            return selected;
        }
        let mut left = max_bytes;
        for (index, place) in self.entries.range(start..end) {
            if let Some((last, _)) = selected.last()
                && (*index != last + 1 || place.bytes > left)
            {
                break;
            }
            left = left.saturating_sub(place.bytes);
            selected.push((*index, *place));
        }
        debug_assert!(
            selected.is_sorted_by(|(one, _), (next, _)| *next == one + 1),
            "selected entries are not contiguous"
        );
        selected
    }

    pub(super) fn add(&mut self, index: u64, place: Place) {
        debug_assert!(
            self.end() < Some(index),
            "entry {index} does not continue the log"
        );
        debug_assert!(
            self.entries
                .last_key_value()
                .is_none_or(|(_, last)| last.position < place.position),
            "entry {index} is stored before its predecessor"
        );
        self.entries.insert(index, place);
        self.live_bytes += place.bytes as u64;
    }

    pub(super) fn truncate(&mut self, from: u64) {
        debug_assert!(
            from >= self.first_possible(),
            "the log is truncated from {from}, which is purged"
        );
        self.epoch += 1;
        let removed = self.entries.split_off(&from);
        self.forget(&removed);
        self.synced = self.synced.min(from.checked_sub(1));
    }

    /// Raises the durable index.
    pub(super) fn note_synced(&mut self, end: Option<u64>) {
        debug_assert!(
            end <= self.end(),
            "the durable index {end:?} is beyond the log's end {:?}",
            self.end()
        );
        self.synced = self.synced.max(end);
    }

    pub(super) fn purge(&mut self, upto: u64, point: Vec<u8>) {
        debug_assert!(
            self.purged_index() <= Some(upto),
            "the purge point goes back to {upto}"
        );
        let kept = match upto.checked_add(1) {
            Some(first) => self.entries.split_off(&first),
            None => BTreeMap::new(),
        };
        let removed = std::mem::replace(&mut self.entries, kept);
        self.forget(&removed);
        self.purged = Some((upto, point));
    }

    fn forget(&mut self, removed: &BTreeMap<u64, Place>) {
        let bytes: usize = removed.values().map(|place| place.bytes).sum();
        self.live_bytes -= bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_entries(indexes: impl IntoIterator<Item = u64>) -> State {
        let mut state = State::default();
        for index in indexes {
            state.add(index, place(index));
        }
        state
    }

    /// Three entries of ten bytes in each segment.
    fn place(index: u64) -> Place {
        let position = Position {
            segment: 1 + index / 3,
            offset: index % 3 * 30,
        };
        Place {
            position,
            bytes: 10,
        }
    }

    #[test]
    fn reads_up_to_a_hole() {
        let state = with_entries([3, 4, 5, 8]);
        for (start, end, max_bytes, expected) in [
            (0, 9, 1000, vec![3, 4, 5]),
            (4, 5, 1000, vec![4]),
            (5, 5, 1000, vec![]),
            (6, 3, 1000, vec![]),
            (6, 9, 1000, vec![8]),
            (9, u64::MAX, 1000, vec![]),
            (3, 6, 20, vec![3, 4]),
            (3, 6, 19, vec![3]),
            (3, 6, 0, vec![3]),
        ] {
            let selected = state.select(start, end, max_bytes);
            assert!(selected.iter().all(|(index, at)| *at == place(*index)));
            let indexes: Vec<u64> = selected.iter().map(|entry| entry.0).collect();
            assert_eq!(indexes, expected, "{start}..{end} in {max_bytes} bytes");
        }
    }

    #[test]
    fn segments_are_needed_for_what_is_live() {
        let mut state = with_entries(0..10);
        assert_eq!(state.first_needed(9), Some(1));
        state.purge(4, Vec::new());
        assert_eq!(state.first_needed(9), Some(2));
        state.purge(5, Vec::new());
        assert_eq!(state.first_needed(9), Some(3));
        state.truncate(6);
        assert_eq!(state.first_needed(9), Some(9));
        state.truncating = true;
        assert_eq!(state.first_needed(9), None);
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
