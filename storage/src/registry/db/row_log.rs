//! Collects what applying events changes: rows to write, topics to rewrite, the state hash, what
//! other parts of the member have to know, and how much work it was.

use std::sync::Arc;

use super::Note;
use super::topic::{Topic, TopicClaim};
use crate::error::Result;
use crate::registry::rows::{Row, RowChange, TopicFact, row_hash};

/// Rows that one event may add or remove one by one; the rest is left to
/// [`Sweep`](crate::registry::event::Event::Sweep)s. About a millisecond of work.
const LARGEST_STEP: usize = 2048;

/// What was changed since the log was last [taken](RowLog::take).
#[derive(Debug, Default)]
pub(super) struct RowLog {
    /// The registry's, while it is being changed.
    pub(super) state_hash: u128,
    /// Claims made, less those removed.
    pub(super) claims: isize,
    /// Channels created, less those removed.
    pub(super) channels: isize,
    changes: Vec<Change>,
    notes: Vec<Note>,
    discarded: Discarded,
    work: usize,
    room: usize,
    scratch: Vec<u8>,
}

/// A change that has to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A row that belongs to no topic.
    Row(RowChange),
    /// Something below this topic, or the topic itself.
    Topic {
        /// Its name.
        name: Arc<str>,
        /// Whether it was not listed before.
        created: bool,
    },
}

/// Memory that is no longer used; freeing it may take a while, so the caller drops it where
/// nobody waits.
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
    /// Lets the next event do a whole step's work.
    pub(super) fn begin_event(&mut self) {
        self.room = LARGEST_STEP;
    }

    /// Whether the current event may do more.
    pub(super) fn has_room(&self) -> bool {
        self.room > 0
    }

    /// Rows changed since the log was taken.
    pub(super) fn work(&self) -> usize {
        self.work
    }

    pub(super) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// A row that was not there.
    pub(super) fn insert(&mut self, row: &Row) -> Result<()> {
        let (key, value) = (row.key(), row.value()?);
        self.state_hash = self.state_hash.wrapping_add(row_hash(&key, &value));
        self.change(RowChange {
            key,
            value: Some(value),
        });
        Ok(())
    }

    /// A row that was there, as it was.
    pub(super) fn remove(&mut self, row: &Row) -> Result<()> {
        let (key, value) = (row.key(), row.value()?);
        self.state_hash = self.state_hash.wrapping_sub(row_hash(&key, &value));
        self.change(RowChange { key, value: None });
        Ok(())
    }

    /// A row that was there, as it was and as it is now; both have the same key.
    pub(super) fn replace(&mut self, old: &Row, new: &Row) -> Result<()> {
        debug_assert!(
            old.key() == new.key() && old != new,
            "a row is replaced by another, or by itself"
        );
        let old_hash = row_hash(&old.key(), &old.value()?);
        self.state_hash = self.state_hash.wrapping_sub(old_hash);
        self.insert(new)
    }

    /// A fact below a topic that is added or removed; its hash.
    pub(super) fn fact(&mut self, topic: &str, fact: TopicFact<'_>) -> u128 {
        self.worked();
        self.hash_of(topic, fact)
    }

    /// The hash of a fact below a topic.
    pub(super) fn hash_of(&mut self, topic: &str, fact: TopicFact<'_>) -> u128 {
        fact.hash(topic, &mut self.scratch)
    }

    /// Something below the topic has changed.
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

    /// What was collected; begins anew.
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
