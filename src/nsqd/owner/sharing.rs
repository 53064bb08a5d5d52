//! Reports two open connections that announce one producer.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::storage::registration::ProducerId;

use super::effects::Effect;
use super::ids::SessionId;
use super::state::Owner;

/// The time between two log lines about the same producer.
const SHARED_AGAIN: Duration = Duration::from_secs(60);

impl Owner {
    pub(super) fn report_shared(&mut self, id: &Arc<ProducerId>) {
        let now = self.now.moment;
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        let [.., other, newest] = producer.sessions.as_slice() else {
            return;
        };
        let logged = producer.shared_logged;
        if logged.is_some_and(|at| now.saturating_sub(at) < SHARED_AGAIN) {
            return;
        }
        let address = |session: &SessionId| {
            let session = self.sessions.get(session);
            session.map_or_else(String::new, |session| session.remote_address.clone())
        };
        let remote_addresses = [address(newest), address(other)];
        producer.shared_logged = Some(now);
        self.effects.push(Effect::Shared {
            producer: (**id).clone(),
            remote_addresses,
        });
    }
}
