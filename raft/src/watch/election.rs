//! Shortens the time without a leader when the leader is known to be gone.
//!
//! openraft's followers wait for the leader's lease (the upper election timeout) and then for
//! another, random election timeout. When the leader has announced that it stops, or its
//! process is gone (its port refuses connections), the second wait is not needed: followers stand for
//! election as soon as the lease is over, one after the other so that they do not split the vote.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Of so many voters, the leader and one other are a majority.
const FEW: usize = 3;

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
            goodbye = contact.goodbye() => Some(goodbye),
            () = tokio::time::sleep(timing.heartbeat) => None,
        };
        let Some((leader, node)) = view.other_leader() else {
            continue;
        };
        let Some(heard) = contact.heard() else {
            continue;
        };
        let gone = said_goodbye.is_some_and(|goodbye| goodbye.leader == leader)
            || (heard.elapsed() > 2 * timing.heartbeat
                && is_gone(&node, &me, &peers, timing.heartbeat).await);
        let goodbye = said_goodbye.filter(|goodbye| goodbye.leader == leader);
        let heir = goodbye.and_then(|goodbye| goodbye.heir);
        let Some(rank) = rank(&view.voters(), leader, heir, view.me()).filter(|_| gone) else {
            continue;
        };
        // A leader that leaves votes for its heir at once, which is enough if there are three.
        let stand_at = match heir == Some(view.me()) && view.voters().len() <= FEW {
            true => Instant::now(),
            false => heard + timing.lease + AFTER_LEASE + STAGGER * rank,
        };
        tokio::select! {
            () = view.another_leader(Some(leader)) => continue,
            () = tokio::time::sleep_until(stand_at.into()) => {}
        }
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

/// A member's place among the followers that vote: the heir is the first.
fn rank(
    voters: &BTreeSet<MemberId>,
    leader: MemberId,
    heir: Option<MemberId>,
    me: MemberId,
) -> Option<u32> {
    let heir = heir.filter(|heir| voters.contains(heir));
    let others = voters.iter().copied();
    let others = others.filter(|voter| *voter != leader && Some(*voter) != heir);
    let order = heir.into_iter().chain(others);
    (0..)
        .zip(order)
        .find(|(_, voter)| *voter == me)
        .map(|(rank, _)| rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heir_stands_first() {
        let ranks = |heir| {
            let voters = BTreeSet::from([1, 2, 3, 4]);
            [1, 2, 3, 4, 5].map(|me| rank(&voters, 2, heir, me))
        };
        assert_eq!(ranks(None), [Some(0), None, Some(1), Some(2), None]);
        assert_eq!(ranks(Some(3)), [Some(1), None, Some(0), Some(2), None]);
        assert_eq!(ranks(Some(9)), ranks(None));
    }
}
