//! Wins the first election of a cluster as soon as the others can vote.
//!
//! Raft would stand for election at once, fail, since the others still load, and wait for a whole
//! election timeout.

use std::collections::BTreeSet;
use std::time::Duration;

use raftlookupd_storage::registration::MemberId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::view::View;
use crate::peer::client::PeerClient;
use crate::peer::message::Hello;
use crate::types::Raft;

/// Interval between questions.
const RETRY: Duration = Duration::from_millis(10);

/// An election that takes longer is repeated.
const ELECTION: Duration = Duration::from_millis(150);

/// Deadline for a question to one peer.
const ANSWER: Duration = Duration::from_millis(200);

/// After this time the ordinary elections go on alone.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Stands for election as the member that has formed the cluster, once a majority can vote, until there
/// is a leader.
pub(crate) async fn win_first_election(
    me: Hello,
    cluster: u128,
    view: View,
    raft: Raft,
    peers: PeerClient,
) {
    let deadline = Instant::now() + GIVE_UP;
    while view.leader().is_none() && Instant::now() < deadline {
        if !view.is_quorum(&who_votes(&me, cluster, &view, &peers).await) {
            tokio::time::sleep(RETRY).await;
            continue;
        }
        if raft.trigger().elect().await.is_err() {
            return;
        }
        view.leader_changed(ELECTION).await;
    }
}

/// This member, and those that belong to the cluster and have loaded.
async fn who_votes(
    me: &Hello,
    cluster: u128,
    view: &View,
    peers: &PeerClient,
) -> BTreeSet<MemberId> {
    let mut questions = JoinSet::new();
    for (id, node) in view.other_voters() {
        let (me, peers) = (me.clone(), peers.clone());
        questions.spawn(async move {
            let answer = peers.ask(&node.address, me, ANSWER).await.ok()?;
            (answer.votes && answer.belongs_to == Some(cluster)).then_some(id)
        });
    }
    let voters = questions.join_all().await.into_iter().flatten();
    voters.chain([view.me()]).collect()
}
