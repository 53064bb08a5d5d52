//! Makes one round of the barrier, on behalf of all reads that wait.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;

use crate::peer::client::PeerClient;
use crate::peer::message::{Following, ReadIndex, ReadPoint};
use crate::read::authority::ReadAuthority;
use crate::read::clock::ClusterClock;
use crate::types::{LeaderId, PeerNode};

/// Deadline of a round. It takes one round trip; a slow one is better repeated.
pub(crate) const ROUND: Duration = Duration::from_millis(250);

type Asked<'a> = Pin<Box<dyn Future<Output = Option<MemberId>> + Send + 'a>>;

/// Makes rounds for one member.
pub(crate) struct ReadRound {
    authority: ReadAuthority,
    clock: Arc<ClusterClock>,
    peers: PeerClient,
}

impl ReadRound {
    pub(crate) fn new(
        authority: ReadAuthority,
        clock: Arc<ClusterClock>,
        peers: PeerClient,
    ) -> Self {
        ReadRound {
            authority,
            clock,
            peers,
        }
    }

    /// The index that a read beginning now must see applied; `None` if no leader confirmed
    /// one in time. The cluster's clock is right afterwards.
    pub(crate) async fn index(&self) -> Option<u64> {
        let leader = self.authority.leader()?;
        match leader.node_id == self.authority.view.me() {
            true => self.lead(leader).await,
            false => self.follow(leader).await,
        }
    }

    async fn follow(&self, leader: LeaderId) -> Option<u64> {
        let node = self.authority.view.node(leader.node_id)?;
        let asked = Instant::now();
        let question = ReadIndex { leader };
        let answer = self
            .peers
            .call(leader.node_id, &node, question, ROUND)
            .await;
        match answer {
            Ok(Some(ReadPoint { index, time })) => {
                // The response may have sat in the socket buffer while this process was suspended.
                if asked.elapsed() < ROUND {
                    self.clock.adopt(time);
                }
                Some(index)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(leader = node.name, %error, "no read index");
                None
            }
        }
    }

    async fn lead(&self, leader: LeaderId) -> Option<u64> {
        let index = self.authority.index(leader)?;
        let mut following = BTreeSet::from([self.authority.view.me()]);
        if self.authority.is_quorum(&following) {
            return Some(index);
        }
        let others = self.authority.view.other_voters();
        let mut asked: Vec<Asked<'_>> = others
            .iter()
            .map(|(id, node)| Box::pin(self.is_following(*id, node, leader)) as Asked<'_>)
            .collect();
        // Enough for a quorum; later responses are skipped when they arrive.
        let enough = poll_fn(|context| {
            asked.retain_mut(|answer| match answer.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(answer) => {
                    following.extend(answer);
                    false
                }
            });
            match (self.authority.is_quorum(&following), asked.is_empty()) {
                (true, _) => Poll::Ready(true),
                (false, true) => Poll::Ready(false),
                (false, false) => Poll::Pending,
            }
        });
        enough.await.then_some(index)
    }

    async fn is_following(
        &self,
        id: MemberId,
        node: &PeerNode,
        leader: LeaderId,
    ) -> Option<MemberId> {
        let answer = self.peers.call(id, node, Following { leader }, ROUND).await;
        matches!(answer, Ok(true)).then_some(id)
    }
}
