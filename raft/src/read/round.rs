//! One round of the barrier: asks on behalf of all reads that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;

use crate::peer::read_lane::{Answer, Lane, Question};
use crate::read::authority::ReadAuthority;
use crate::read::clock::ClusterClock;
use crate::types::LeaderId;

/// A round takes one round trip; a slow one is better repeated.
pub(crate) const ROUND: Duration = Duration::from_millis(250);

type Following<'a> = Pin<Box<dyn Future<Output = Option<MemberId>> + Send + 'a>>;

/// Makes rounds for one member.
pub(crate) struct ReadRound {
    cluster: u128,
    authority: ReadAuthority,
    clock: Arc<ClusterClock>,
    lanes: BTreeMap<MemberId, Lane>,
}

impl ReadRound {
    pub(crate) fn new(cluster: u128, authority: ReadAuthority, clock: Arc<ClusterClock>) -> Self {
        ReadRound {
            cluster,
            authority,
            clock,
            lanes: BTreeMap::new(),
        }
    }

    /// The index that a read beginning now must see applied; `None` if nobody could say so in
    /// time. The cluster's clock is right afterwards.
    pub(crate) async fn index(&mut self) -> Option<u64> {
        let leader = self.authority.leader()?;
        let index = match leader.node_id == self.authority.me {
            true => tokio::time::timeout(ROUND, self.lead(leader)).await,
            false => tokio::time::timeout(ROUND, self.follow(leader)).await,
        };
        if let Ok(index) = index {
            return index;
        }
        // Whoever was too slow may be gone without a word.
        self.lanes.values_mut().for_each(Lane::hang_up);
        None
    }

    async fn follow(&mut self, leader: LeaderId) -> Option<u64> {
        let address = self.authority.address(leader.node_id)?;
        let asked = Instant::now();
        let lane = self.lane(leader.node_id, &address);
        match lane.ask(Question::ReadIndex { leader }).await {
            Ok(Answer::ReadPoint { index, time }) => {
                // It may have lain here while this member was stopped.
                if asked.elapsed() < ROUND {
                    self.clock.take_over(time);
                }
                Some(index)
            }
            Ok(Answer::No | Answer::Following) => None,
            Err(error) => {
                tracing::debug!(leader = leader.node_id, %error, "the leader did not answer");
                None
            }
        }
    }

    async fn lead(&mut self, leader: LeaderId) -> Option<u64> {
        let index = self.authority.index(leader)?;
        let mut following = BTreeSet::from([self.authority.me]);
        if self.authority.is_quorum(&following) {
            return Some(index);
        }
        let others = self.authority.other_voters();
        for (id, address) in &others {
            self.lane(*id, address);
        }
        let authority = &self.authority;
        let ids: BTreeSet<MemberId> = others.iter().map(|(id, _)| *id).collect();
        let lanes = self.lanes.iter_mut().filter(|(id, _)| ids.contains(id));
        let mut asked: Vec<Following<'_>> = lanes
            .map(|(id, lane)| Box::pin(is_following(*id, lane, leader)) as Following<'_>)
            .collect();
        // As many as it takes; the others have their say next time.
        let enough = poll_fn(|context| {
            asked.retain_mut(|answer| match answer.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(answer) => {
                    following.extend(answer);
                    false
                }
            });
            match (authority.is_quorum(&following), asked.is_empty()) {
                (true, _) => Poll::Ready(true),
                (false, true) => Poll::Ready(false),
                (false, false) => Poll::Pending,
            }
        });
        enough.await.then_some(index)
    }

    fn lane(&mut self, to: MemberId, address: &str) -> &mut Lane {
        let (cluster, me) = (self.cluster, self.authority.me);
        let new = || Lane::new(cluster, me, to, address.to_string());
        let lane = self.lanes.entry(to).or_insert_with(new);
        if !lane.leads_to(address) {
            *lane = new();
        }
        lane
    }
}

async fn is_following(id: MemberId, lane: &mut Lane, leader: LeaderId) -> Option<MemberId> {
    let answer = lane.ask(Question::Following { leader }).await;
    matches!(answer, Ok(Answer::Following)).then_some(id)
}
