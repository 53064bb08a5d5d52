//! Shortens the time without a leader when the leader is known to be gone.
//!
//! openraft's followers wait for the leader's lease (the upper election timeout) and then for
//! another, random election timeout. When the leader has said goodbye, or its process is gone
//! (its port refuses connections), the second wait is of no use: a follower stands for election
//! as soon as the lease is over, each at another moment so that they do not split the vote.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;

use crate::cluster::leader_contact::LeaderContact;
use crate::peer::client::{CallError, PeerClient};
use crate::peer::message::Hello;
use crate::types::{Raft, RaftMetrics};

/// How long after the lease the first follower stands.
const AFTER_LEASE: Duration = Duration::from_millis(30);

/// The next follower stands so much later.
const STAGGER: Duration = Duration::from_millis(120);

/// What the watch needs to know of Raft's timing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// A silence of twice this is worth a look.
    pub(crate) heartbeat: Duration,
    /// No vote is granted for so long after the leader was last heard.
    pub(crate) lease: Duration,
}

/// Watches the leader for as long as the member runs.
pub(crate) async fn watch_leader(
    me: Hello,
    id: MemberId,
    raft: Raft,
    peers: PeerClient,
    contact: Arc<LeaderContact>,
    timing: Timing,
) {
    loop {
        let said_goodbye = tokio::select! {
            leader = contact.goodbye() => Some(leader),
            () = tokio::time::sleep(timing.heartbeat) => None,
        };
        let metrics = raft.metrics().borrow().clone();
        let Some(leader) = metrics.current_leader.filter(|leader| *leader != id) else {
            continue;
        };
        let Some(heard) = contact.heard() else {
            continue;
        };
        let gone = said_goodbye == Some(leader)
            || (heard.elapsed() > 2 * timing.heartbeat
                && is_gone(&metrics, leader, &me, &peers, timing.heartbeat).await);
        let Some(rank) = rank(&metrics, id).filter(|_| gone) else {
            continue;
        };
        let stand_at = heard + timing.lease + AFTER_LEASE + STAGGER * rank;
        tokio::time::sleep_until(stand_at.into()).await;
        let still = raft.metrics().borrow().current_leader == Some(leader);
        // A leader that was heard in the meantime is alive after all.
        if still
            && contact
                .heard()
                .is_none_or(|again| again <= heard + AFTER_LEASE)
        {
            tracing::info!(leader, silent = ?heard.elapsed(), "the leader is gone, standing for election");
            if let Err(error) = raft.trigger().elect().await {
                tracing::debug!(%error, "raft has stopped");
                return;
            }
            wait_for_leader(&raft, Instant::now() + timing.lease).await;
        }
    }
}

async fn is_gone(
    metrics: &RaftMetrics,
    leader: MemberId,
    me: &Hello,
    peers: &PeerClient,
    deadline: Duration,
) -> bool {
    let Some(node) = metrics.membership_config.membership().get_node(&leader) else {
        return false;
    };
    let answer = peers.ask(&node.address, me.clone(), deadline).await;
    matches!(answer, Err(CallError::Refused))
}

/// This member's place among the followers that vote.
fn rank(metrics: &RaftMetrics, id: MemberId) -> Option<u32> {
    let voters = metrics.membership_config.voter_ids();
    let followers = voters.filter(|voter| Some(*voter) != metrics.current_leader);
    (0..)
        .zip(followers)
        .find(|(_, voter)| *voter == id)
        .map(|(rank, _)| rank)
}

async fn wait_for_leader(raft: &Raft, until: Instant) {
    let mut metrics = raft.metrics();
    let elected = metrics.wait_for(|metrics| metrics.current_leader.is_some());
    // Without one the loop looks again.
    let _ = tokio::time::timeout_at(until.into(), elected).await;
}
