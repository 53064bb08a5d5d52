//! Shortens the time without a leader when the leader is known to be gone.
//!
//! openraft's followers wait for the leader's lease (the upper election timeout) and then for
//! another, random election timeout. When the leader has announced that it stops, or its
//! process is gone (its port refuses connections), the second wait is not needed: followers stand for
//! election as soon as the lease is over, one after the other so that they do not split the vote.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_storage::registration::MemberId;

use crate::cluster::leader_contact::LeaderContact;
use crate::cluster::view::View;
use crate::peer::client::{CallError, PeerClient};
use crate::peer::message::Hello;
use crate::types::{PeerNode, Raft};

/// Time from the end of the lease until the first follower stands for election.
const AFTER_LEASE: Duration = Duration::from_millis(30);

/// Time from one follower to the next.
const STAGGER: Duration = Duration::from_millis(120);

/// The timing of Raft.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Interval of heartbeats; two missed ones are worth a check.
    pub(crate) heartbeat: Duration,
    /// No vote is granted for this long after the last heartbeat.
    pub(crate) lease: Duration,
}

/// Watches the leader for as long as the member runs.
pub(crate) async fn watch_leader(
    me: Hello,
    view: View,
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
        let Some((leader, node)) = view.other_leader() else {
            continue;
        };
        let Some(heard) = contact.heard() else {
            continue;
        };
        let gone = said_goodbye == Some(leader)
            || (heard.elapsed() > 2 * timing.heartbeat
                && is_gone(&node, &me, &peers, timing.heartbeat).await);
        let Some(rank) = rank(&view, leader).filter(|_| gone) else {
            continue;
        };
        let stand_at = heard + timing.lease + AFTER_LEASE + STAGGER * rank;
        tokio::time::sleep_until(stand_at.into()).await;
        let still = view.leader() == Some(leader);
        // A leader that was heard in the meantime is alive after all.
        if still
            && contact
                .heard()
                .is_none_or(|again| again <= heard + AFTER_LEASE)
        {
            let silent_ms = heard.elapsed().as_millis();
            tracing::info!(
                leader = node.name,
                silent_ms,
                "the leader is gone, standing for election"
            );
            if let Err(error) = raft.trigger().elect().await {
                tracing::debug!(%error, "raft has stopped");
                return;
            }
            // Without one the loop looks again.
            let elected = view.another_leader(None);
            let _ = tokio::time::timeout(timing.lease, elected).await;
        }
    }
}

async fn is_gone(node: &PeerNode, me: &Hello, peers: &PeerClient, deadline: Duration) -> bool {
    let answer = peers.ask(&node.address, me.clone(), deadline).await;
    matches!(answer, Err(CallError::Refused))
}

/// This member's place among the followers that vote.
fn rank(view: &View, leader: MemberId) -> Option<u32> {
    let voters = view.voters().into_iter();
    let followers = voters.filter(|voter| *voter != leader);
    (0..)
        .zip(followers)
        .find(|(_, voter)| *voter == view.me())
        .map(|(rank, _)| rank)
}
