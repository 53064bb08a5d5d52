//! Reaches the leader with batches, be it this member or another.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_storage::event::{BatchResult, MemberBatch};
use raftlookupd_storage::registration::MemberId;

use crate::peer::client::PeerClient;
use crate::peer::message::SubmitBatch;
use crate::types::{PeerNode, Raft, RaftMetrics};
use crate::write::proposer::Proposer;

/// A leader that does not answer within this time is asked again, or another one is.
const ANSWER: Duration = Duration::from_millis(1000);

/// The way to the leader.
#[derive(Clone)]
pub(crate) struct LeaderLink {
    me: MemberId,
    raft: Raft,
    proposer: Arc<Proposer>,
    peers: PeerClient,
}

enum Leader {
    Me,
    Other { id: MemberId, node: PeerNode },
}

impl LeaderLink {
    pub(crate) fn new(
        me: MemberId,
        raft: Raft,
        proposer: Arc<Proposer>,
        peers: PeerClient,
    ) -> Self {
        LeaderLink {
            me,
            raft,
            proposer,
            peers,
        }
    }

    /// `None`: the fate of the batch is open, repeat it.
    pub(crate) async fn submit(&self, batch: &MemberBatch) -> Option<BatchResult> {
        match self.leader()? {
            Leader::Me => {
                let answer = self.proposer.submit(batch.clone());
                tokio::time::timeout(ANSWER, answer).await.ok()?.ok()
            }
            Leader::Other { id, node } => {
                let batch = SubmitBatch(batch.clone());
                let answer = self.peers.call(id, &node, batch, ANSWER).await;
                answer
                    .inspect_err(
                        |error| tracing::debug!(leader = id, %error, "the leader did not answer"),
                    )
                    .ok()
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

    /// The leader as this member knows it.
    pub(crate) fn leader_id(&self) -> Option<MemberId> {
        self.raft.metrics().borrow().current_leader
    }

    /// Resolves when a leader other than this one is known.
    pub(crate) async fn another_leader(&self, than: Option<MemberId>) {
        let mut metrics = self.raft.metrics();
        let another = |leader: Option<MemberId>| leader.is_some() && leader != than;
        let found = metrics.wait_for(|metrics| another(metrics.current_leader));
        if found.await.is_err() {
            // Raft has ended; whoever waits is ended by that.
            std::future::pending::<()>().await;
        }
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
            node: node.clone(),
        })
    }
}
