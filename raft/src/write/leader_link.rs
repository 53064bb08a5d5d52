//! Takes batches to the leader, be it this member or another.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_storage::event::{BatchResult, MemberBatch};

use crate::cluster::view::View;
use crate::peer::client::PeerClient;
use crate::peer::message::SubmitBatch;
use crate::write::proposer::Proposer;

/// A leader that does not answer within this time is asked again, or another one is.
const ANSWER: Duration = Duration::from_millis(1000);

/// The way to the leader.
#[derive(Clone)]
pub(crate) struct LeaderLink {
    view: View,
    proposer: Arc<Proposer>,
    peers: PeerClient,
}

impl LeaderLink {
    pub(crate) fn new(view: View, proposer: Arc<Proposer>, peers: PeerClient) -> Self {
        LeaderLink {
            view,
            proposer,
            peers,
        }
    }

    /// `None`: the outcome of the batch is unknown, repeat it.
    pub(crate) async fn submit(&self, batch: &MemberBatch) -> Option<BatchResult> {
        if self.view.leads() {
            let answer = self.proposer.submit(batch.clone());
            return tokio::time::timeout(ANSWER, answer).await.ok()?.ok();
        }
        let (id, leader) = self.view.other_leader()?;
        let batch = SubmitBatch(batch.clone());
        let answer = self.peers.call(id, &leader, batch, ANSWER).await;
        answer
            .inspect_err(|error| {
                tracing::debug!(leader = leader.name, %error, "the leader did not answer");
            })
            .ok()
    }
}
