//! Logs one line for each transition, and ends the member when Raft has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openraft::error::Fatal;
use raftlookupd_storage::registration::MemberId;

use crate::cluster::view::View;
use crate::error::innermost;
use crate::failure::{Ending, Failure};
use crate::types::{PeerNode, Raft};

#[derive(PartialEq, Eq)]
struct Seen {
    leader: Option<MemberId>,
    quorum: bool,
    members: BTreeSet<MemberId>,
    voters: BTreeSet<MemberId>,
}

/// Logs what changes until Raft stops.
pub(crate) async fn log_transitions(
    view: View,
    raft: Raft,
    election_timeout: Duration,
    failure: Failure,
) {
    let mut watched = raft.metrics();
    let mut seen = Seen {
        leader: None,
        quorum: true,
        members: BTreeSet::new(),
        voters: BTreeSet::new(),
    };
    let mut led_since = Instant::now();
    loop {
        let running = watched.borrow_and_update().running_state.clone();
        if let Err(fatal) = running {
            failure.send_replace(Some(match fatal {
                Fatal::StorageError(error) => Ending::Storage(innermost(&error).to_string()),
                Fatal::Panicked => Ending::Other("raft's core panicked".into()),
                Fatal::Stopped => Ending::Other("raft was stopped".into()),
            }));
            return;
        }
        if view.leader() != seen.leader {
            led_since = Instant::now();
        }
        let nodes = view.nodes();
        let now = observe(&view, nodes.keys(), led_since);
        log_changes(&view, &nodes, &seen, &now);
        seen = now;
        // The age of the last quorum grows without a change of the metrics.
        match tokio::time::timeout(election_timeout, watched.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => {
                failure.send_replace(Some(Ending::Other("raft's core is gone".into())));
                return;
            }
        }
    }
}

fn observe<'a>(
    view: &View,
    members: impl Iterator<Item = &'a MemberId>,
    led_since: Instant,
) -> Seen {
    // A leader that was just elected has that from when it led before.
    let age = view.quorum_age().map(|age| age.min(led_since.elapsed()));
    Seen {
        leader: view.leader(),
        quorum: !view.leads() || age.is_none_or(|age| age < view.lost_after()),
        members: members.copied().collect(),
        voters: view.voters(),
    }
}

fn log_changes(view: &View, nodes: &BTreeMap<MemberId, PeerNode>, before: &Seen, now: &Seen) {
    let term = view.term();
    if now.leader != before.leader {
        match now.leader {
            Some(leader) if leader == view.me() => tracing::info!(term, "this member leads now"),
            Some(leader) => {
                let node = nodes.get(&leader);
                let name = node.map_or("?", |node| node.name.as_str());
                tracing::info!(leader = name, term, "following a new leader");
            }
            None => tracing::warn!(term, "no leader is known"),
        }
    }
    match (before.quorum, now.quorum) {
        (true, false) => tracing::warn!("quorum lost: the other members do not answer"),
        (false, true) => tracing::info!("quorum regained"),
        _ => {}
    }
    let changed = now.members != before.members || now.voters != before.voters;
    if changed && !now.members.is_empty() {
        let voters = now.voters.len();
        let learners = now.members.len().saturating_sub(voters);
        tracing::info!(voters, learners, "membership");
    }
}
