//! Ends a session, and withdraws what only it wanted.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::storage::registration::ProducerId;

use super::effects::{CloseReason, Effect};
use super::ids::SessionId;
use super::state::Owner;

/// How long an nsqd that has reconnected may take until its first PING; usually it sends one every 15
/// seconds. Until then, what its older connection registered is kept.
pub(super) const RECONNECTS: Duration = Duration::from_secs(20);

/// How long after its last session ended an nsqd may take to come back: nsqd 1.3.0 takes up to 30
/// seconds.
const COMES_BACK: Duration = Duration::from_secs(45);

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
                producer.inherits_until = Some(self.now.moment + RECONNECTS);
                producer.is_reconnecting = true;
            }
            if producer.sessions.is_empty() {
                // As for what other members hold of it.
                let until = self.now.moment + COMES_BACK;
                let inherits = producer.inherits_until;
                producer.inherits_until = inherits.map(|inherits| inherits.min(until));
            }
            if producer.is_reconnecting && newest_pinged != Some(false) {
                producer.is_reconnecting = false;
                producer.inherits_until = None;
                producer.start_review();
            }
            producer.withdraw_all(closed.claims);
            if producer.has_much_to_compare() {
                producer.compare_all();
            }
            if producer.sessions.is_empty() {
                producer.registered.clear();
                producer.blocked.registered.clear();
            }
        }
        self.wake(&id);
        Some(id)
    }
}
