//! How a member learns that it is no member any more: nobody sends it anything, so it asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;

use crate::cluster::leader_contact::LeaderContact;
use crate::failure::{Ending, Failure};
use crate::peer::client::PeerClient;
use crate::peer::message::Hello;
use crate::types::{Raft, RaftMetrics};

/// Without a leader for so long, something may be wrong with us and not with the others.
const SUSPICIOUS: Duration = Duration::from_secs(5);

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// For one question to one peer.
const ANSWER: Duration = Duration::from_millis(500);

/// Ends the member when most of the voters that it knows have a leader and do not know it. One of
/// them may lag behind; a majority cannot, since it agreed to every change.
pub(crate) async fn watch_removal(
    me: Hello,
    cluster: u128,
    id: MemberId,
    raft: Raft,
    contact: Arc<LeaderContact>,
    peers: PeerClient,
    failure: Failure,
) {
    let mut led = Instant::now();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let metrics = raft.metrics().borrow().clone();
        // Whom a learner followed last counts as its leader for ever, heard or not.
        if metrics.current_leader == Some(id) {
            led = Instant::now();
        }
        led = led.max(contact.heard().unwrap_or(led));
        if led.elapsed() > SUSPICIOUS && is_removed(&me, cluster, id, &metrics, &peers).await {
            let reason = "this member was removed from the cluster, or replaced by one of its name";
            failure.send_replace(Some(Ending::Member(reason.into())));
            return;
        }
    }
}

async fn is_removed(
    me: &Hello,
    cluster: u128,
    id: MemberId,
    metrics: &RaftMetrics,
    peers: &PeerClient,
) -> bool {
    let membership = metrics.membership_config.membership();
    let voters: Vec<MemberId> = membership.voter_ids().collect();
    let mut strangers = 0;
    for voter in &voters {
        let Some(node) = membership.get_node(voter).filter(|_| *voter != id) else {
            continue;
        };
        let answer = peers.ask(&node.address, me.clone(), ANSWER).await.ok();
        let formed = answer.and_then(|answer| answer.formed);
        let unknown = formed.is_some_and(|formed| {
            formed.cluster == cluster
                && formed.leader.is_some()
                && formed.members.iter().all(|(member, _)| *member != id)
        });
        strangers += usize::from(unknown);
    }
    strangers > voters.len() / 2
}
