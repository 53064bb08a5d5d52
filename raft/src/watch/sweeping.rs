//! Removes, at the leader and step by step, claims that no longer count, and what only absent
//! members hold of producers that ended at a present one.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration_db::{RegistrationDb, ReleasedCursor};

use crate::cluster::view::View;
use crate::log::registry_state::RegistryState;
use crate::read::clock::ClusterClock;
use crate::write::proposer::Proposer;

/// Interval between checks for something to sweep; what is left meanwhile is not visible.
const SWEEP: Duration = Duration::from_millis(100);

/// Steps in one log entry.
const SWEEPS: usize = 8;

/// Interval between checks for producers and names that expire.
const EXPIRE: Duration = Duration::from_secs(1);

/// How long a producer has to attach again after its last session at a present member ended, in
/// milliseconds. nsqd 1.3.0 notices a closed connection at its next PING and dials at the one
/// after: 29 s measured, later behind slow lookupds.
const GRACE: u64 = 45_000;

/// Rows examined in one read of the registry.
const PAGE: usize = 1000;

/// Events in one log entry.
const AT_ONCE: usize = 256;

/// Runs for as long as the member does.
pub(crate) async fn sweep(view: View, state: Arc<RegistryState>, proposer: Arc<Proposer>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        while view.leads() && state.read(RegistrationDb::needs_sweep) {
            let sweeps = vec![Event::Sweep; SWEEPS];
            if let Err(error) = proposer.submit_own(sweeps).await {
                tracing::debug!(%error, "sweep not committed, trying again");
                break;
            }
        }
    }
}

/// Runs for as long as the member does.
pub(crate) async fn expire(
    view: View,
    state: Arc<RegistryState>,
    clock: Arc<ClusterClock>,
    proposer: Arc<Proposer>,
) {
    loop {
        tokio::time::sleep(EXPIRE).await;
        if !view.leads() || !state.read(RegistrationDb::has_absent_attachments) {
            continue;
        }
        let mut found = expired_names(&state);
        found.extend(expired_producers(&state, clock.now()));
        for some in found.chunks(AT_ONCE) {
            if let Err(error) = proposer.submit_own(some.to_vec()).await {
                tracing::debug!(%error, "expiry not committed, trying again");
                break;
            }
        }
    }
}

fn expired_producers(state: &RegistryState, now: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut behind = None;
    loop {
        let until = now.saturating_sub(GRACE);
        let (found, next) = state.read(|db| db.expirable(until, behind, PAGE));
        if !found.is_empty() {
            let producers = found.len();
            tracing::info!(
                producers,
                "nsqds ended while a member that lists them is away: unlisting them"
            );
        }
        events.extend(
            found
                .into_iter()
                .map(|(producer, ended)| Event::Expire { producer, ended }),
        );
        if next.is_none() {
            return events;
        }
        behind = next;
    }
}

fn expired_names(state: &RegistryState) -> Vec<Event> {
    let mut events = Vec::new();
    let mut behind: Option<ReleasedCursor> = None;
    loop {
        let (found, next) = state.read(|db| db.expirable_names(behind.as_ref(), PAGE));
        events.extend(found.into_iter().map(|found| Event::ExpireName {
            producer: found.producer,
            topic: found.name.0.to_string(),
            channel: found.name.1.as_deref().map(String::from),
            released: found.released,
        }));
        if next.is_none() {
            return events;
        }
        behind = next;
    }
}
