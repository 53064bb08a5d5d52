//! Has the leader note where this member is reached, and make it a voter.

use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;

use crate::members::membership::Membership;
use crate::peer::client::PeerClient;
use crate::peer::message::{Hello, Promote};
use crate::types::{PeerNode, Raft, RaftMetrics};

/// Between two requests.
const RETRY: Duration = Duration::from_millis(100);

/// Between two log lines.
const REMIND: Duration = Duration::from_secs(5);

/// Deadline for a question to one peer.
const ANSWER: Duration = Duration::from_millis(500);

/// Deadline for a change of the membership.
const CHANGE: Duration = Duration::from_secs(15);

/// Asks the leader to note this member's address and to make it a voter, until both is so.
pub(crate) async fn take_place(
    hello: Hello,
    me: Promote,
    raft: &Raft,
    membership: &Membership,
    peers: &PeerClient,
) {
    let mut reminded = Instant::now();
    loop {
        let metrics = raft.metrics().borrow().clone();
        if has_place(&me, &metrics) {
            return;
        }
        let members = metrics.membership_config.membership();
        let leader = metrics.current_leader;
        let asked = match leader.and_then(|leader| Some((leader, members.get_node(&leader)?))) {
            Some((leader, _)) if leader == me.id => {
                let done = membership.promote(me.clone()).await;
                done.map_err(|declined| declined.to_string())
            }
            Some((leader, node)) => {
                let done = peers.call(leader, node, me.clone(), CHANGE).await;
                done.map_err(|error| error.to_string())
            }
            None => match others_leader(&hello, me.id, &metrics, peers).await {
                Some((leader, node)) => {
                    let done = peers.call(leader, &node, me.clone(), CHANGE).await;
                    done.map_err(|error| error.to_string())
                }
                None => Err("no leader is known".into()),
            },
        };
        if let Err(error) = asked
            && reminded.elapsed() > REMIND
        {
            reminded = Instant::now();
            tracing::info!(error, "not in place yet");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The leader that another member knows, with its address: no leader can reach a member that has
/// moved, and one that restarts may not know whom it followed.
async fn others_leader(
    hello: &Hello,
    me: MemberId,
    metrics: &RaftMetrics,
    peers: &PeerClient,
) -> Option<(MemberId, PeerNode)> {
    let members = metrics.membership_config.membership().nodes();
    for (_, node) in members.filter(|(id, _)| **id != me) {
        let answer = peers.ask(&node.address, hello.clone(), ANSWER).await.ok();
        let formed = answer.and_then(|answer| answer.formed);
        let leader = formed.and_then(|formed| {
            let mut members = formed.members.into_iter();
            members.find(|(id, _)| Some(*id) == formed.leader)
        });
        if let Some(leader) = leader.filter(|(id, _)| *id != me) {
            return Some(leader);
        }
    }
    None
}

/// Whether the member votes, is known at its address, and is the only one of its name.
fn has_place(me: &Promote, metrics: &RaftMetrics) -> bool {
    let membership = metrics.membership_config.membership();
    let Some(node) = membership.get_node(&me.id) else {
        return false;
    };
    let mut others = membership.nodes().filter(|(id, _)| **id != me.id);
    node.address == me.address
        && membership.voter_ids().any(|voter| voter == me.id)
        && !others.any(|(_, other)| other.name == node.name)
}
