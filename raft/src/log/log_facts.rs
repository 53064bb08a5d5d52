//! What reads must know of this member's log at once. openraft's metrics say the same a moment
//! later, and in that moment a read could be answered by a leader that has been replaced.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::types::Vote;

/// Kept by the log store, read by whoever answers for reads.
#[derive(Debug, Default)]
pub(crate) struct LogFacts {
    vote: Mutex<Option<Vote>>,
    membership: AtomicU64,
    committed: AtomicU64,
}

impl LogFacts {
    /// The vote on disk; `None` also while it is being replaced.
    pub(crate) fn vote(&self) -> Option<Vote> {
        *self.lock()
    }

    pub(crate) fn set_vote(&self, vote: Option<Vote>) {
        *self.lock() = vote;
    }

    /// The index of the newest membership that was appended since the start; 0 if none was.
    pub(crate) fn membership_index(&self) -> u64 {
        self.membership.load(Ordering::Acquire)
    }

    pub(crate) fn appended_membership(&self, index: u64) {
        self.membership.fetch_max(index, Ordering::Release);
    }

    /// Up to where the log is known to be committed; 0 if nothing is known. Raised before any
    /// peer or session can learn of it, so nothing acknowledged lies beyond.
    pub(crate) fn committed_index(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(crate) fn committed(&self, index: u64) {
        self.committed.fetch_max(index, Ordering::Release);
    }

    /// A membership from this index on is one no more. Only a follower truncates.
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
