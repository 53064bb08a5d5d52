//! Offers what the rest of the program calls: write, barrier, read, status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration::{MemberId, UnixMillis};
use raftlookupd_storage::registration_db::RegistrationDb;

use crate::change::{Changed, MembershipChange, Progress};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::failure;
use crate::node::running::Node;
use crate::node::runtime::RaftRuntime;
use crate::owner::SharedOwner;
use crate::status::{MemberStatus, Status};
use crate::write::requests::Pending;
use crate::write::space::Level;

/// A running member's share of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    node: Arc<Node>,
    runtime: Arc<RaftRuntime>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Registry")
            .field("own", &self.node.own)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Opens the data path, forms the cluster or finds it again, and loads the state. Waits for
    /// the other members for as long as it takes; dropping the future gives up. What the sessions
    /// of this member need is proposed for their owner.
    ///
    /// # Errors
    /// [`Error::Storage`] if the data path cannot be used, [`Error::Membership`] if the cluster
    /// cannot be formed as configured, [`Error::Fatal`] if Raft does not start.
    pub async fn start(config: Config, owner: SharedOwner) -> Result<Registry> {
        let runtime = RaftRuntime::start()?;
        let handle = runtime.handle()?;
        let node = RaftRuntime::run(&handle, Node::start(config, owner)).await??;
        Ok(Registry {
            node: Arc::new(node),
            runtime: Arc::new(runtime),
        })
    }

    /// This member's Raft node id.
    pub fn member_id(&self) -> MemberId {
        self.node.own.id
    }

    /// Queues an event that is asked for by itself, as over HTTP; never waits. It is repeated until
    /// it is committed, whether or not the answer is awaited.
    ///
    /// # Errors
    /// [`Error::QueueFull`] or [`Error::Stopping`]; the event is not queued then.
    pub fn submit(&self, event: Event) -> Result<Pending> {
        self.node.batcher.submit(event)
    }

    /// Submits an event and waits for its fate.
    ///
    /// # Errors
    /// [`Error::DiskFull`] or [`Error::NoQuorum`] if it was not proposed, [`Error::OutcomeUnknown`] if the deadline
    /// passed, [`Error::Refused`] if the registry said no.
    pub async fn write(&self, event: Event, deadline: Duration) -> Result<()> {
        let started = Instant::now();
        if !self.node.space.admits([&event]) {
            return Err(Error::DiskFull);
        }
        // Without a quorum there is no need to try.
        self.barrier(deadline).await?;
        let mut pending = self.submit(event)?;
        let left = deadline.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, &mut pending).await {
            Ok(fate) => fate,
            Err(_) if pending.withdraw() => Err(Error::NoQuorum),
            Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    /// After `Ok`, [`read`](Self::read) shows everything that was acknowledged by any member
    /// before this call. Callers share rounds.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] after the deadline, at once if there has been none for seconds.
    pub async fn barrier(&self, deadline: Duration) -> Result<()> {
        self.node.barrier.wait(deadline).await
    }

    /// Reads the registry as it is at this member. The query has to be short: it holds up the
    /// state machine, and with it all other readers.
    pub fn read<T>(&self, query: impl FnOnce(&RegistrationDb) -> T) -> T {
        self.node.state.read(query)
    }

    /// The cluster's time, in milliseconds since the Unix epoch: what stamps events, and what
    /// tombstones end by. After a [`barrier`](Self::barrier) it is the leader's.
    pub fn now(&self) -> UnixMillis {
        self.node.clock.now()
    }

    /// Whether the disk is so full that this member refuses writes, except for deletes.
    pub fn is_read_only(&self) -> bool {
        self.node.space.level() > Level::Enough
    }

    /// Whether this member knows of a leader.
    pub fn has_leader(&self) -> bool {
        self.node.view.leader().is_some()
    }

    /// For how long this member may have missed changes: the time since it last showed all that a
    /// leader with a quorum called committed or, leading itself, heard a quorum.
    pub fn staleness(&self) -> Duration {
        let confirmed = self.node.barrier.confirmed();
        if self.node.view.leads() {
            let age = self.node.view.quorum_age();
            return age.unwrap_or_else(|| confirmed.elapsed());
        }
        let current = self.node.leader_contact.current();
        let current = current.map_or(confirmed, |current| current.max(confirmed));
        current.elapsed()
    }

    /// Makes a change of the membership, at whichever member leads.
    ///
    /// # Errors
    /// [`Error::UnknownMember`] and [`Error::ChangeRefused`] say why nothing was done;
    /// [`Error::NoQuorum`] if there was no leader in time, [`Error::OutcomeUnknown`] if it did not
    /// answer.
    pub async fn change_membership(
        &self,
        change: MembershipChange,
        deadline: Duration,
    ) -> Result<Changed> {
        self.node.changes.change(change, deadline).await
    }

    /// How far every member is, as the leader sees it; `None` if no leader answers.
    pub async fn progress(&self) -> Option<Vec<Progress>> {
        self.node.changes.progress().await
    }

    /// What an operator wants to know.
    pub fn status(&self) -> Status {
        let metrics = self.node.raft.metrics().borrow().clone();
        let (voters, contacts) = (self.node.view.voters(), self.node.peers.contacts());
        let members = self.node.view.nodes().into_iter();
        let members = members.map(|(id, node)| MemberStatus {
            id,
            joined: !node.is_announced(),
            name: node.name,
            peer_address: node.address,
            voter: voters.contains(&id),
            last_contact: contacts
                .get(&id)
                .and_then(|contact| contact.answered)
                .map(|answered| answered.elapsed()),
        });
        let (pending_events, committed_events) = self.node.batcher.counts();
        let applied = self.node.state.point();
        Status {
            cluster_id: format!("{:032x}", self.node.own.cluster),
            id: self.node.own.id,
            name: self.node.name.clone(),
            leader: self
                .node
                .view
                .confirmed_leader(self.node.leader_contact.heard()),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: applied.log_id.map_or(0, |id| id.index),
            snapshot_index: metrics.snapshot.map_or(0, |id| id.index),
            purged_index: metrics.purged.map_or(0, |id| id.index),
            state_hash: format!("{:032x}", applied.state_hash),
            pending_events,
            committed_events,
            log_bytes: self.node.log.live_bytes(),
            registry_rebuilt: self.node.rebuilt,
            syncs: self.node.log.sync_counts(),
            read_only: self.is_read_only(),
            disk_free_bytes: self.node.space.free(),
            members: members.collect(),
        }
    }

    /// Resolves when the member cannot go on: [`Error::StorageFailed`], [`Error::Membership`] or
    /// [`Error::Fatal`].
    pub async fn failed(&self) -> Error {
        failure::failed(&self.node.failure).await
    }

    /// Hands leadership over if this member leads, stops, and closes the store. Events that still wait are left undone.
    pub async fn shutdown(&self) {
        let Ok(handle) = self.runtime.handle() else {
            return;
        };
        let node = self.node.clone();
        if let Err(error) = RaftRuntime::run(&handle, async move { node.stop().await }).await {
            tracing::warn!(%error, "not stopped cleanly; nothing acknowledged is lost");
        }
    }
}
