//! Holds what reads must know of this member's log without delay. openraft's metrics show the same a
//! moment later, and in that moment a leader that has been replaced could answer a read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::types::Vote;

/// Written by the log store and the network, read by the read authority.
#[derive(Debug, Default)]
pub(crate) struct LogFacts {
    vote: Mutex<Option<Vote>>,
    voted: Mutex<Option<Instant>>,
    membership: AtomicU64,
    committed: AtomicU64,
}

impl LogFacts {
    /// The vote on disk; `None` also while it is being replaced.
    pub(crate) fn vote(&self) -> Option<Vote> {
        *self.lock()
    }

    pub(crate) fn set_vote(&self, vote: Option<Vote>) {
        *self.voted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        *self.lock() = vote;
    }

    /// When the vote was last set.
    pub(crate) fn voted(&self) -> Option<Instant> {
        *self.voted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index of the newest membership that was appended since the start; 0 if none was.
    pub(crate) fn membership_index(&self) -> u64 {
        self.membership.load(Ordering::Acquire)
    }

    pub(crate) fn appended_membership(&self, index: u64) {
        self.membership.fetch_max(index, Ordering::Release);
    }

    /// The highest index that is known to be committed; 0 if none is. Raised before any peer or
    /// session is told, so nothing acknowledged lies beyond it.
    pub(crate) fn committed_index(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(crate) fn committed(&self, index: u64) {
        self.committed.fetch_max(index, Ordering::Release);
    }

    /// Forgets a membership entry that a truncation at `from` removed. Only a follower truncates.
    pub(crate) fn truncated(&self, from: u64) {
        // Fails if there is nothing to forget.
        let _ = self
            .membership
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |index| {
                (index >= from).then_some(0)
            });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vote>> {
        self.vote.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
