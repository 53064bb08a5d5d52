//! Tracks when the leader was last heard, and whether it has announced that it stops.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use raftlookupd_storage::registration::MemberId;
use tokio::sync::Notify;

/// When the leader was last heard, and whether it has announced that it stops.
#[derive(Default)]
pub(crate) struct LeaderContact {
    heard: Mutex<Option<Instant>>,
    current: Mutex<Option<Instant>>,
    leaving: Mutex<Option<MemberId>>,
    goodbye: Notify,
}

impl LeaderContact {
    /// When this member last accepted a message of the leader.
    pub(crate) fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the registry here last showed all that a leader with a quorum had committed.
    pub(crate) fn current(&self) -> Option<Instant> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The registry here shows all that was committed at that moment.
    pub(crate) fn is_current(&self, at: Instant) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = current.max(Some(at));
    }

    /// Waits until a leader announces that it stops; returns its id.
    pub(crate) async fn goodbye(&self) -> MemberId {
        loop {
            let leaving = self
                .leaving
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(leader) = leaving {
                return leader;
            }
            self.goodbye.notified().await;
        }
    }

    /// A leader has announced that it stops.
    pub(crate) fn hear_goodbye(&self, leader: MemberId) {
        *self.leaving.lock().unwrap_or_else(PoisonError::into_inner) = Some(leader);
        self.goodbye.notify_one();
    }

    /// This member has just accepted a message of the leader.
    pub(crate) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
