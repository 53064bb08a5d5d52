//! Reports an `--initial-cluster` that differs from the recorded membership.
//!
//! The list only counts while a cluster forms. Whoever changes it later wants something that does not
//! happen, so it is said once, with both sides and what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::view::View;
use crate::peer::client::PeerClient;
use crate::peer::message::Hello;

/// Interval between attempts while the membership is not known yet.
const RETRY: Duration = Duration::from_millis(100);

/// Deadline for a question to one peer.
const ANSWER: Duration = Duration::from_millis(500);

/// Compares once, as soon as the membership is known.
pub(crate) async fn report_difference(me: Hello, cluster: u128, view: View, peers: PeerClient) {
    if me.initial.is_empty() {
        return;
    }
    let mut recorded = view.nodes();
    while recorded.is_empty() {
        tokio::time::sleep(RETRY).await;
        recorded = view.nodes();
    }
    let recorded = recorded.into_values();
    let recorded = recorded.map(|node| (node.name, node.address)).collect();
    let listed: BTreeMap<String, String> = me.initial.iter().cloned().collect();
    if listed == recorded {
        return;
    }
    tracing::warn!(
        listed = shown(&listed),
        recorded = shown(&recorded),
        "--initial-cluster differs from the members that are recorded, which count: the list is only \
         read while a cluster forms. Correct the list, or change the members with raftlookupd cluster \
         add, remove or move"
    );
    for (name, address) in listed.iter().filter(|(name, _)| **name != me.name) {
        let answer = peers.ask(address, me.clone(), ANSWER).await.ok();
        let theirs = answer.and_then(|answer| answer.belongs_to);
        if let Some(theirs) = theirs.filter(|theirs| *theirs != cluster) {
            tracing::error!(
                member = me.name,
                cluster = format!("{cluster:032x}"),
                listed = name,
                address,
                its_cluster = format!("{theirs:032x}"),
                "--initial-cluster lists a member of another cluster, and the two stay apart: for one \
                 cluster, start all but one of the members with an empty --data-path, after raftlookupd \
                 import has copied what they hold"
            );
        }
    }
}

fn shown(members: &BTreeMap<String, String>) -> String {
    let members = members.iter();
    let members = members.map(|(name, address)| format!("{name}={address}"));
    members.collect::<Vec<_>>().join(",")
}
