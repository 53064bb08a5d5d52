//! Collects the effects of applying events: rows to write, topics to rewrite, the state hash,
//! notes, memory to free, and the amount of work.

use std::sync::Arc;

use super::Note;
use super::topic::{Topic, TopicClaim};
use crate::error::Result;
use crate::registry::rows::{Row, RowChange, TopicFact, row_hash};

/// The most rows that one event may add or remove one by one, about a millisecond of work. The rest
/// is left to [`Sweep`](crate::registry::event::Event::Sweep)s.
const LARGEST_STEP: usize = 2048;

/// The effects since the log was last [taken](RowLog::take).
#[derive(Debug, Default)]
pub(super) struct RowLog {
    /// The registry's state hash, while it is being changed.
    pub(super) state_hash: u128,
    /// Claims added, minus those removed.
    pub(super) claims: isize,
    /// Channels added, minus those removed.
    pub(super) channels: isize,
    changes: Vec<Change>,
    notes: Vec<Note>,
    discarded: Discarded,
    work: usize,
    room: usize,
    scratch: Vec<u8>,
}

/// A change that has to be written to disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A row that belongs to no topic.
    Row(RowChange),
    /// A topic that changed, or anything that belongs to it.
    Topic {
        /// Its name.
        name: Arc<str>,
        /// Whether it was just created.
        created: bool,
    },
}

/// Memory that is no longer used. Freeing it may take long, so the caller does it outside of locks.
#[derive(Debug, Default)]
pub struct Discarded {
    topics: Vec<Topic>,
    claims: Vec<TopicClaim>,
}

impl Discarded {
    /// Whether there is nothing to free.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.claims.is_empty()
    }
}

impl RowLog {
    /// Grants the next event a step's work.
    pub(super) fn begin_event(&mut self) {
        self.room = LARGEST_STEP;
    }

    /// Whether the current event may do more work.
    pub(super) fn has_room(&self) -> bool {
        self.room > 0
    }

    /// The number of rows changed since the log was taken.
    pub(super) fn work(&self) -> usize {
        self.work
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Notes a new row.
    pub(super) fn insert(&mut self, row: &Row) -> Result<()> {
        let (key, value) = (row.key(), row.value()?);
        self.state_hash = self.state_hash.wrapping_add(row_hash(&key, &value));
        self.change(RowChange {
            key,
            value: Some(value),
        });
        Ok(())
    }

    /// Notes that a row is removed, given as it was.
    pub(super) fn remove(&mut self, row: &Row) -> Result<()> {
        let (key, value) = (row.key(), row.value()?);
        self.state_hash = self.state_hash.wrapping_sub(row_hash(&key, &value));
        self.change(RowChange { key, value: None });
        Ok(())
    }

    /// Notes that a row is changed, given as it was and as it is now. Both have the same key.
    pub(super) fn replace(&mut self, old: &Row, new: &Row) -> Result<()> {
        debug_assert!(
            old.key() == new.key() && old != new,
            "a row is replaced by a different row, or by an equal one"
        );
        let old_hash = row_hash(&old.key(), &old.value()?);
        self.state_hash = self.state_hash.wrapping_sub(old_hash);
        self.insert(new)
    }

    /// Counts a fact of a topic that is added or removed, and returns its hash.
    pub(super) fn fact(&mut self, topic: &str, fact: TopicFact<'_>) -> u128 {
        self.worked();
        self.hash_of(topic, fact)
    }

    /// The hash of a fact of a topic.
    pub(super) fn hash_of(&mut self, topic: &str, fact: TopicFact<'_>) -> u128 {
        fact.hash(topic, &mut self.scratch)
    }

    /// Notes that a topic, or anything that belongs to it, has changed.
    pub(super) fn topic(&mut self, name: &Arc<str>, created: bool) {
        let repeated =
            |last: &Change| matches!(last, Change::Topic { name: last, .. } if last == name);
        if created || !self.changes.last().is_some_and(repeated) {
            let name = name.clone();
            self.changes.push(Change::Topic { name, created });
        }
    }

    pub(super) fn discard_topic(&mut self, topic: Topic) {
        self.discarded.topics.push(topic);
    }

    pub(super) fn discard_claim(&mut self, claim: TopicClaim) {
        if claim.is_large() {
            self.discarded.claims.push(claim);
        }
    }

    /// Returns what was collected, and starts anew.
    pub(super) fn take(&mut self) -> (Vec<Change>, Vec<Note>, Discarded) {
        self.work = 0;
        (
            std::mem::take(&mut self.changes),
            std::mem::take(&mut self.notes),
            std::mem::take(&mut self.discarded),
        )
    }

    fn change(&mut self, change: RowChange) {
        self.worked();
        self.changes.push(Change::Row(change));
    }

    fn worked(&mut self) {
        self.work += 1;
        self.room = self.room.saturating_sub(1);
    }
}
