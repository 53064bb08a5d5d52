//! Detects that this member was removed. The leader says so once; a removed member that missed it
//! receives no messages, so it polls the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::leader_contact::LeaderContact;
use crate::cluster::view::{View, is_majority};
use crate::failure::{Ending, Failure};
use crate::peer::client::PeerClient;
use crate::peer::message::Hello;

/// After this long without a leader this member may have been removed.
const SUSPICIOUS: Duration = Duration::from_secs(5);

/// Pause before a member that was told so checks whether it was removed.
const TOLD: Duration = Duration::from_millis(100);

/// Interval between checks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Deadline for a question to one peer.
const ANSWER: Duration = Duration::from_millis(500);

/// Ends the member when a majority of the voters it knows have a leader and do not list it as a
/// member. One of them may lag behind; a majority cannot, since it agreed to every change.
pub(crate) async fn watch_removal(
    me: Hello,
    cluster: u128,
    view: View,
    contact: Arc<LeaderContact>,
    peers: PeerClient,
    failure: Failure,
) {
    let mut led = Instant::now();
    let mut told = None::<Instant>;
    loop {
        tokio::select! {
            () = contact.removal() => told = Some(Instant::now()),
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let was_told = told.is_some_and(|told| told.elapsed() < SUSPICIOUS);
        if was_told {
            // This member may be about to answer who asked for it, and the others to learn of it.
            tokio::time::sleep(TOLD).await;
        }
        // A learner keeps its last leader indefinitely, heard or not.
        if view.leads() {
            led = Instant::now();
        }
        led = led.max(contact.heard().unwrap_or(led));
        let suspicious = was_told || led.elapsed() > SUSPICIOUS;
        if suspicious && is_removed(&me, cluster, &view, &peers).await {
            failure.send_replace(Some(Ending::removed(&me.name)));
            return;
        }
    }
}

async fn is_removed(me: &Hello, cluster: u128, view: &View, peers: &PeerClient) -> bool {
    let mut strangers = 0;
    for (id, node) in view.other_voters() {
        let answer = peers.ask_at((id, &node), me.clone(), ANSWER).await;
        let formed = answer.ok().and_then(|answer| answer.formed);
        let unknown = formed.is_some_and(|formed| {
            formed.cluster == cluster
                && formed.leader.is_some()
                && formed.members.iter().all(|(id, _)| *id != view.me())
        });
        strangers += usize::from(unknown);
    }
    is_majority(strangers, view.voters().len())
}
