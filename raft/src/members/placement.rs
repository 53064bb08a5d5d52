//! Has the leader note where this member is reached, and make it a voter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;
use tokio::task::JoinSet;

use crate::cluster::view::View;
use crate::members::membership::Membership;
use crate::peer::client::{CallError, PeerClient};
use crate::peer::handshake::Refusal;
use crate::peer::message::{Hello, Promote};
use crate::types::PeerNode;

/// Between two requests.
const RETRY: Duration = Duration::from_millis(100);

/// Between two log lines.
const REMIND: Duration = Duration::from_secs(5);

/// Deadline for a question to one peer.
const ANSWER: Duration = Duration::from_millis(500);

/// Deadline for telling one peer where this member is: it asks there and where it was.
const TOLD: Duration = Duration::from_secs(4);

/// Deadline for a change of the membership.
const CHANGE: Duration = Duration::from_secs(15);

/// This member's place among the voters, as it wants it.
pub(crate) struct Placement {
    pub(crate) hello: Hello,
    pub(crate) wanted: Promote,
    pub(crate) view: View,
    pub(crate) membership: Arc<Membership>,
    pub(crate) peers: PeerClient,
}

impl Placement {
    /// Asks the leader to note this member's address and to make it a voter, until both is so.
    pub(crate) async fn take(self) {
        let mut reminded = Instant::now();
        while !self.is_taken() {
            if let Err(error) = self.ask().await
                && reminded.elapsed() > REMIND
            {
                reminded = Instant::now();
                tracing::info!(error, "waiting to be admitted as a voter");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn ask(&self) -> Result<(), String> {
        let wanted = self.wanted.clone();
        if self.view.leads() {
            let done = self.membership.promote(wanted).await;
            return done.map_err(|declined| declined.to_string());
        }
        let leader = match self.view.other_leader() {
            Some(leader) => Some(leader),
            None => self.leader_known_to_others().await,
        };
        let Some((leader, node)) = leader else {
            self.tell_all().await;
            return Err("no leader is known".into());
        };
        let done = self.peers.call(leader, &node, wanted.clone(), CHANGE).await;
        let done = match done {
            // Until the leader has noted that this member has moved, it takes it for a stranger.
            Err(
                CallError::Refused
                | CallError::Lost(_)
                | CallError::Unwelcome {
                    refusal: Refusal::NotAtItsAddress { .. },
                    ..
                },
            ) => self.peers.ask_at((leader, &node), wanted, CHANGE).await,
            done => done,
        };
        done.map_err(|error| error.to_string())
    }

    /// Tells the others where this member is: without a leader nobody can record it, but they need its
    /// vote, or it theirs.
    async fn tell_all(&self) {
        let mut told = JoinSet::new();
        for (id, node) in self.view.nodes() {
            if id == self.wanted.id {
                continue;
            }
            let (peers, wanted) = (self.peers.clone(), self.wanted.clone());
            // Only that it is heard matters; there is no leader to do it.
            told.spawn(async move { drop(peers.ask_at((id, &node), wanted, TOLD).await) });
        }
        told.join_all().await;
    }

    /// The leader that another member knows: no leader can reach a member that has moved, and one
    /// that restarts may not know whom it followed.
    async fn leader_known_to_others(&self) -> Option<(MemberId, PeerNode)> {
        for (id, node) in self.view.nodes() {
            if id == self.wanted.id {
                continue;
            }
            let hello = self.hello.clone();
            let answer = self.peers.ask_at((id, &node), hello, ANSWER).await;
            let formed = answer.ok().and_then(|answer| answer.formed);
            let leader = formed.and_then(|formed| {
                let mut members = formed.members.into_iter();
                members.find(|(id, _)| Some(*id) == formed.leader)
            });
            if let Some(leader) = leader.filter(|(id, _)| *id != self.wanted.id) {
                return Some(leader);
            }
        }
        None
    }

    /// Whether the member votes, is known at its address, and is the only one of its name.
    fn is_taken(&self) -> bool {
        let mut others = self.view.nodes();
        let Some(node) = others.remove(&self.wanted.id) else {
            return false;
        };
        node.address == self.wanted.address
            && self.view.voters().contains(&self.wanted.id)
            && !others.values().any(|other| other.name == node.name)
    }
}
