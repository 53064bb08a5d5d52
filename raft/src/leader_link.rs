//! Reaches the leader, be it this member or another: for batches and for read indexes.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_storage::event::{BatchResult, MemberBatch};
use raftlookupd_storage::registration::MemberId;

use crate::cluster_clock::ClusterClock;
use crate::peer_client::PeerClient;
use crate::peer_message::{PeerRequest, ReadIndex, SubmitBatch};
use crate::proposer::Proposer;
use crate::types::{Raft, RaftMetrics};

/// A leader that does not answer within this time is asked again, or another one is.
const ANSWER: Duration = Duration::from_millis(1000);

/// A read index takes a round trip or two; a slow one is better repeated.
const READ_INDEX: Duration = Duration::from_millis(250);

/// The way to the leader.
#[derive(Clone)]
pub(crate) struct LeaderLink {
    me: MemberId,
    raft: Raft,
    proposer: Arc<Proposer>,
    peers: PeerClient,
    clock: Arc<ClusterClock>,
}

enum Leader {
    Me,
    Other { id: MemberId, address: String },
}

impl LeaderLink {
    pub(crate) fn new(
        me: MemberId,
        raft: Raft,
        proposer: Arc<Proposer>,
        peers: PeerClient,
        clock: Arc<ClusterClock>,
    ) -> Self {
        LeaderLink {
            me,
            raft,
            proposer,
            peers,
            clock,
        }
    }

    /// `None`: the fate of the batch is open, repeat it.
    pub(crate) async fn submit(&self, batch: &MemberBatch) -> Option<BatchResult> {
        match self.leader()? {
            Leader::Me => {
                let answer = self.proposer.submit(batch.clone());
                tokio::time::timeout(ANSWER, answer).await.ok()?.ok()
            }
            Leader::Other { id, address } => {
                self.ask(id, &address, SubmitBatch(batch.clone()), ANSWER)
                    .await
            }
        }
    }

    /// The index that a read beginning now must see applied; `None` if no leader with a quorum
    /// said so in time. The cluster's clock is right afterwards.
    pub(crate) async fn read_index(&self) -> Option<u64> {
        match self.leader()? {
            Leader::Me => read_index(&self.raft).await,
            Leader::Other { id, address } => {
                let point = self.ask(id, &address, ReadIndex, READ_INDEX).await?;
                self.clock.take_over(point.time);
                Some(point.index)
            }
        }
    }

    /// Waits until the leader is another one than now, at most this long.
    pub(crate) async fn leader_changed(&self, at_most: Duration) {
        let mut metrics = self.raft.metrics();
        let leader = metrics.borrow().current_leader;
        let changed = metrics.wait_for(|metrics| metrics.current_leader != leader);
        // Both a change and the end of the time are reasons to go on.
        let _ = tokio::time::timeout(at_most, changed).await;
    }

    async fn ask<Q: PeerRequest>(
        &self,
        id: MemberId,
        address: &str,
        question: Q,
        deadline: Duration,
    ) -> Option<Q::Answer> {
        let answer = self.peers.call(id, address, question, deadline).await;
        answer
            .inspect_err(|error| tracing::debug!(leader = id, %error, "the leader did not answer"))
            .ok()
    }

    fn leader(&self) -> Option<Leader> {
        let metrics = self.raft.metrics();
        let metrics: &RaftMetrics = &metrics.borrow();
        let id = metrics.current_leader?;
        if id == self.me {
            return Some(Leader::Me);
        }
        let node = metrics.membership_config.membership().get_node(&id)?;
        Some(Leader::Other {
            id,
            address: node.address.clone(),
        })
    }
}

/// Asks this member's own Raft node, which confirms its leadership with a quorum.
pub(crate) async fn read_index(raft: &Raft) -> Option<u64> {
    let confirmed = tokio::time::timeout(READ_INDEX, raft.get_read_log_id()).await;
    let (read, _applied) = confirmed.ok()?.ok()?;
    Some(read.map_or(0, |id| id.index))
}
