//! Starts over when the registry has loaded, or a snapshot has replaced it.

use std::sync::Arc;

use raftlookupd_raft::storage::registration::{MemberId, ProducerId};

use super::effects::{CloseReason, Effect};
use super::now::Now;
use super::state::{Me, Owner};

impl Owner {
    /// The registry has loaded, or was replaced: what it records for this member is inherited. After
    /// a replacement the sessions are closed: a snapshot does not show whether a name was deleted or
    /// never recorded.
    pub fn begin(&mut self, now: Now, member: MemberId, incarnation: u64, replaced: bool) {
        self.now = now;
        self.me = Some(Me {
            member,
            incarnation,
            since: now.moment,
        });
        self.flights.clear();
        if replaced {
            let sessions = std::mem::take(&mut self.sessions);
            let closed = sessions.keys();
            let closed = closed.map(|session| Effect::Close(*session, CloseReason::Replaced));
            self.effects.extend(closed);
            self.producers.clear();
            self.ready.clear();
            self.tickets.clear();
            self.undecided_bytes = 0;
            return;
        }
        let until = now.moment + self.settings.inactive_producer_timeout;
        let ids: Vec<Arc<ProducerId>> = self.producers.keys().cloned().collect();
        for id in ids {
            if let Some(producer) = self.producers.get_mut(&id) {
                producer.inherits_until = producer.inherits_until.map(|_| until);
            }
            self.wake(&id);
        }
    }
}
