//! The leader takes away, bit by bit, what sessions with very many claims have left.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration::MemberId;
use raftlookupd_storage::registration_db::RegistrationDb;

use crate::proposer::Proposer;
use crate::registry_state::RegistryState;
use crate::types::Raft;

/// How often it looks whether there is something to do; nobody sees what is left meanwhile.
const INTERVAL: Duration = Duration::from_millis(100);

/// Runs for as long as the member does.
pub(crate) async fn sweep(
    me: MemberId,
    raft: Raft,
    state: Arc<RegistryState>,
    proposer: Arc<Proposer>,
) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let leads = || raft.metrics().borrow().current_leader == Some(me);
        while leads() && state.read(RegistrationDb::needs_sweep) {
            if let Err(error) = proposer.submit_own(vec![Event::Sweep]).await {
                tracing::debug!(%error, "left for the next turn");
                break;
            }
        }
    }
}
