//! Tracks when the leader was last heard, and whether it has announced that it leaves.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use raftlookupd_storage::registration::MemberId;
use tokio::sync::Notify;

/// What a leader says that is about to give it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goodbye {
    /// That leader.
    pub(crate) leader: MemberId,
    /// Who stands for election first.
    pub(crate) heir: Option<MemberId>,
}

/// When the leader was last heard, and what it has announced.
#[derive(Default)]
pub(crate) struct LeaderContact {
    heard: Mutex<Option<Instant>>,
    current: Mutex<Option<Instant>>,
    leaving: Mutex<Option<Goodbye>>,
    goodbye: Notify,
    removed: Notify,
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

    /// Waits until a leader announces that it leaves.
    pub(crate) async fn goodbye(&self) -> Goodbye {
        loop {
            let leaving = self
                .leaving
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(goodbye) = leaving {
                return goodbye;
            }
            self.goodbye.notified().await;
        }
    }

    /// A leader has announced that it leaves.
    pub(crate) fn hear_goodbye(&self, goodbye: Goodbye) {
        *self.leaving.lock().unwrap_or_else(PoisonError::into_inner) = Some(goodbye);
        self.goodbye.notify_one();
    }

    /// Waits until a leader says that it has removed this member.
    pub(crate) async fn removal(&self) {
        self.removed.notified().await;
    }

    /// A leader says that it has removed this member.
    pub(crate) fn hear_removal(&self) {
        self.removed.notify_one();
    }

    /// This member has just accepted a message of the leader.
    pub(crate) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}
