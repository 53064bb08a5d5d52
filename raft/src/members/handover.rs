//! Hands leadership to a follower that has caught up.
//!
//! The leader stops proposing and sends no more heartbeats, waits until the heir has all of the log,
//! and tells everyone. Of three voters the heir is elected within a round trip, since the leader
//! votes for it; of more, when the lease that the others keep is over. Until then the leader answers
//! reads. If nobody takes over in time it goes on leading.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;
use tokio::task::JoinSet;

use crate::cluster::view::View;
use crate::log::log_facts::LogFacts;
use crate::peer::client::PeerClient;
use crate::peer::message::LeaderLeaves;
use crate::types::{Raft, RaftMetrics};
use crate::write::proposer::Proposer;

/// How long a leader that leaves waits for the others to take note.
const GOODBYE: Duration = Duration::from_millis(200);

/// How long the heir may take to get the last entries.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Time for an election, besides the lease.
const ELECTION: Duration = Duration::from_secs(2);

/// Between two looks at what has arrived.
const LOOK: Duration = Duration::from_millis(2);

/// One member's way to give up leadership.
pub(crate) struct Handover {
    pub(crate) raft: Raft,
    pub(crate) view: View,
    pub(crate) peers: PeerClient,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) facts: Arc<LogFacts>,
    /// For how long a follower votes for nobody else after it has heard the leader.
    pub(crate) lease: Duration,
}

/// Why nobody else leads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stayed {
    /// There is no other voter that answers.
    #[error("no other voter answers")]
    NoHeir,
    /// The heir did not get the last entries.
    #[error("{0} misses entries")]
    Behind(String),
    /// The heir was not elected.
    #[error("{0} was not elected in time")]
    NotElected(String),
}

impl Handover {
    /// Has this follower lead, or the one that misses least; returns when another member leads.
    ///
    /// # Errors
    /// [`Stayed`]; this member leads on then, if it still can.
    pub(crate) async fn hand_over(&self, to: Option<MemberId>) -> Result<MemberId, Stayed> {
        let heir = to.or_else(|| self.best()).ok_or(Stayed::NoHeir)?;
        let node = self.view.node(heir).ok_or(Stayed::NoHeir)?;
        self.may_vote_for_another().await;
        self.hold(true);
        let handed = self.give_to(heir, node.name).await;
        self.hold(false);
        handed
    }

    async fn give_to(&self, heir: MemberId, name: String) -> Result<MemberId, Stayed> {
        let begun = Instant::now();
        while self.lag(heir) != Some(0) {
            if begun.elapsed() > CATCH_UP {
                return Err(Stayed::Behind(name));
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::info!(heir = name, "handing leadership over");
        self.say_goodbye(Some(heir)).await;
        let me = self.view.me();
        let elected = self.view.another_leader(Some(me));
        let within = self.lease + ELECTION;
        match tokio::time::timeout(within, elected).await {
            Ok(()) => Ok(self.view.leader().unwrap_or(heir)),
            Err(_) => Err(Stayed::NotElected(name)),
        }
    }

    /// A leader that was elected a moment ago votes for nobody else until its lease is over.
    async fn may_vote_for_another(&self) {
        if let Some(voted) = self.facts.voted() {
            tokio::time::sleep_until((voted + self.lease + LOOK).into()).await;
        }
    }

    /// Nothing that the others receive from now on should renew the lease.
    fn hold(&self, hold: bool) {
        self.proposer.hold(hold);
        self.raft.runtime_config().heartbeat(!hold);
    }

    /// The voter that misses least of those that were heard lately.
    fn best(&self) -> Option<MemberId> {
        let contact = self.view.contact();
        let heard = |id: &MemberId| {
            let last = contact.last_accepted(*id);
            last.is_some_and(|at| at.elapsed() < self.lease)
        };
        let others = self.view.other_voters().into_iter().map(|(id, _)| id);
        let lags = others
            .filter(heard)
            .filter_map(|id| Some((self.lag(id)?, id)));
        lags.min().map(|(_, id)| id)
    }

    /// How many entries a member misses; `None` if it was never reached, or this member does not
    /// lead.
    pub(crate) fn lag(&self, id: MemberId) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics: &RaftMetrics = &metrics.borrow();
        let matched = metrics.replication.as_ref()?.get(&id).copied().flatten()?;
        let last = metrics.last_log_index.unwrap_or(0);
        Some(last.saturating_sub(matched.index))
    }

    /// Tells everyone that this leader leaves.
    pub(crate) async fn say_goodbye(&self, heir: Option<MemberId>) {
        let mut goodbyes = JoinSet::new();
        for (id, node) in self.view.nodes() {
            if id == self.view.me() {
                continue;
            }
            let peers = self.peers.clone();
            goodbyes.spawn(async move {
                let noted = peers.call(id, &node, LeaderLeaves { heir }, GOODBYE).await;
                if let Err(error) = noted {
                    tracing::debug!(peer = node.name, %error, "the goodbye was not acknowledged");
                }
            });
        }
        goodbyes.join_all().await;
    }
}
