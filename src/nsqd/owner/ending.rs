//! Ends a session, and withdraws what only it wanted.

use std::sync::Arc;

use raftlookupd_raft::storage::registration::ProducerId;

use super::effects::{CloseReason, Effect};
use super::ids::SessionId;
use super::state::Owner;

impl Owner {
    /// Closes a session by this member's decision.
    pub(super) fn end(&mut self, session: SessionId, reason: CloseReason) {
        if self.remove(session).is_some() {
            self.effects.push(Effect::Close(session, reason));
        }
    }

    /// Forgets a session; what only it wanted is withdrawn.
    pub(super) fn remove(&mut self, session: SessionId) -> Option<Arc<ProducerId>> {
        let closed = self.sessions.remove(&session)?;
        self.undecided_bytes -= closed.undecided_bytes();
        let id = closed.producer.clone();
        if let Some(producer) = self.producers.get_mut(&id) {
            producer.sessions.retain(|open| *open != session);
            producer.ended = self.now.clock;
            // Sessions are in the order of their beginning.
            let newest = producer.sessions.last().copied();
            let newest_pinged = newest.and_then(|newest| Some(self.sessions.get(&newest)?.pinged));
            let comes_back = newest > Some(session) && newest_pinged == Some(false);
            if comes_back && producer.inherits_until.is_none() {
                let timeout = self.settings.inactive_producer_timeout;
                producer.inherits_until = Some(self.now.moment + timeout);
                producer.is_reconnecting = true;
            }
            if producer.is_reconnecting && newest_pinged != Some(false) {
                producer.is_reconnecting = false;
                producer.inherits_until = None;
                producer.start_review();
            }
            producer.withdraw_all(closed.claims);
        }
        self.wake(&id);
        Some(id)
    }
}
