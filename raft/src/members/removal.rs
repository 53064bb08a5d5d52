//! How a member learns that it is no member any more: nobody sends it anything, so it asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::leader_contact::LeaderContact;
use crate::cluster::view::{View, is_majority};
use crate::failure::{Ending, Failure};
use crate::peer::client::PeerClient;
use crate::peer::message::Hello;

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
    view: View,
    contact: Arc<LeaderContact>,
    peers: PeerClient,
    failure: Failure,
) {
    let mut led = Instant::now();
    loop {
        tokio::time::sleep(INTERVAL).await;
        // Whom a learner followed last counts as its leader for ever, heard or not.
        if view.leads() {
            led = Instant::now();
        }
        led = led.max(contact.heard().unwrap_or(led));
        if led.elapsed() > SUSPICIOUS && is_removed(&me, cluster, &view, &peers).await {
            let reason = "this member was removed from the cluster, or replaced by one of its name";
            failure.send_replace(Some(Ending::Member(reason.into())));
            return;
        }
    }
}

async fn is_removed(me: &Hello, cluster: u128, view: &View, peers: &PeerClient) -> bool {
    let mut strangers = 0;
    for (_, node) in view.other_voters() {
        let answer = peers.ask(&node.address, me.clone(), ANSWER).await.ok();
        let formed = answer.and_then(|answer| answer.formed);
        let unknown = formed.is_some_and(|formed| {
            formed.cluster == cluster
                && formed.leader.is_some()
                && formed.members.iter().all(|(id, _)| *id != view.me())
        });
        strangers += usize::from(unknown);
    }
    is_majority(strangers, view.voters().len())
}
