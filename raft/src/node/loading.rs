//! Loads the log and the registry, and starts Raft over them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::identity::{Incarnation, OwnMembership};
use crate::cluster::quorum_contact::QuorumContact;
use crate::cluster::view::View;
use crate::error::{Error, Result};
use crate::log::log_store::LogStore;
use crate::log::registry_state::RegistryState;
use crate::log::state_machine::StateMachine;
use crate::node::network::Network;
use crate::node::opening::{Base, Opened};
use crate::node::runtime::blocking;
use crate::owner::SharedOwner;
use crate::types::Raft;

/// Raft with all that it works on.
pub(crate) struct Loaded {
    pub(crate) base: Base,
    pub(crate) own: OwnMembership,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) state: Arc<RegistryState>,
    pub(crate) view: View,
    /// Whether the registry's tables were damaged.
    pub(crate) rebuilt: bool,
    /// Grows when a snapshot replaces the registry.
    pub(crate) incarnation: watch::Receiver<u64>,
    /// Whether this start has written the first entry of the cluster.
    pub(crate) founded: bool,
}

impl Loaded {
    /// Loads what the data path holds. The owner is called from here on.
    ///
    /// # Errors
    /// [`Error::Storage`] if rows or entries are missing or damaged, [`Error::Fatal`] if Raft does
    /// not start.
    pub(crate) async fn load(
        opened: Opened,
        own: OwnMembership,
        owner: SharedOwner,
    ) -> Result<Loaded> {
        let base = opened.base;
        let log = LogStore::new(base.store.log())?;
        let its_log = log.clone();
        let load = move || {
            let loaded = StateMachine::load(&base.store, &its_log);
            Ok((loaded?, base))
        };
        let (mut state_machine, base) = blocking(load).await?;
        let (state, rebuilt) = (state_machine.state(), state_machine.rebuilt());
        let founded = found(&log, &own).await?;
        let log = log.purged_behind(state.clone(), base.store.snapshots());
        let incarnation = Incarnation::of(opened.file, opened.identity, base.me.clone());
        let incarnations = incarnation.watch();
        state_machine.serve(own.id, owner, incarnation);
        let contact = Arc::new(QuorumContact::default());
        let network = Network {
            peers: base.peers.clone(),
            log: log.durable_index(),
            facts: log.facts(),
            contact: contact.clone(),
            heartbeat_interval: base.settings.heartbeat_interval,
            speakers: base.speakers.clone(),
        };
        let settings = &base.settings;
        let (config, election) = (settings.raft.clone(), settings.election_timeout.start);
        let raft = Raft::new(own.id, config, network, log.clone(), state_machine).await;
        let raft = raft.map_err(|error| Error::Fatal(error.to_string()))?;
        Ok(Loaded {
            view: View::new(own.id, raft.metrics(), contact, election),
            base,
            own,
            raft,
            log,
            state,
            rebuilt,
            incarnation: incarnations,
            founded,
        })
    }

    /// Stands for election if no other member votes.
    ///
    /// # Errors
    /// [`Error::Fatal`] if Raft has stopped.
    /// [`Error::Membership`] if there are others, and this member does not listen for them.
    pub(crate) async fn begin(&self) -> Result<()> {
        if !self.base.settings.reachable && self.view.nodes().len() > 1 {
            return Err(Error::Membership(
                "its cluster has other members, and it does not listen for them: start it with \
                 --peer-address"
                    .into(),
            ));
        }
        if self.view.voters().into_iter().eq([self.own.id]) {
            let elected = self.raft.trigger().elect().await;
            elected.map_err(|error| Error::Fatal(error.to_string()))?;
        }
        Ok(())
    }

    /// Waits for a leader, since without one every first request would be turned away. If there is
    /// none after a while there is no quorum, and what is known here is better than nothing.
    pub(crate) async fn wait_for_leader(&self) {
        let at_most = 2 * self.base.settings.election_timeout.end;
        let elected = self.view.another_leader(None);
        if tokio::time::timeout(at_most, elected).await.is_err() {
            tracing::warn!("no leader yet: answering with what is known here");
        }
    }
}

/// Writes the first entry if this member forms the cluster, before Raft starts: Raft would vote first,
/// and a vote that survives a loss of power without that entry belongs to no cluster.
async fn found(log: &LogStore, own: &OwnMembership) -> Result<bool> {
    let Some(founding) = &own.founding else {
        return Ok(false);
    };
    let founded = log.found(founding).await?;
    if founded {
        let names: Vec<_> = founding.values().map(|node| node.name.as_str()).collect();
        tracing::info!(members = names.join(", "), "formed a new cluster");
    }
    Ok(founded)
}
