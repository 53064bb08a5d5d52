//! One line in the log for each transition, and the end of the process when Raft has ended.

use std::time::Duration;

use openraft::error::Fatal;
use raftlookupd_storage::registration::MemberId;

use crate::error::innermost;
use crate::failure::{Ending, Failure};
use crate::types::{Raft, RaftMetrics};

/// A leader that has not heard a quorum for this many lower election timeouts has lost it.
const LOST_QUORUM: u32 = 3;

#[derive(PartialEq, Eq)]
struct Seen {
    leader: Option<MemberId>,
    quorum: bool,
    members: Vec<(MemberId, bool)>,
}

/// Logs what changes until Raft stops.
pub(crate) async fn log_transitions(
    id: MemberId,
    raft: Raft,
    election_timeout: Duration,
    failure: Failure,
) {
    let mut watched = raft.metrics();
    let mut seen = Seen {
        leader: None,
        quorum: true,
        members: Vec::new(),
    };
    loop {
        let metrics = watched.borrow_and_update().clone();
        if let Err(fatal) = &metrics.running_state {
            failure.send_replace(Some(match fatal {
                Fatal::StorageError(error) => Ending::Storage(innermost(error).to_string()),
                Fatal::Panicked => Ending::Other("its core panicked".into()),
                Fatal::Stopped => Ending::Other("it was told to".into()),
            }));
            return;
        }
        let now = observe(id, &metrics, election_timeout * LOST_QUORUM);
        log_changes(id, &metrics, &seen, &now);
        seen = now;
        // The age of the last quorum grows without a change of the metrics.
        match tokio::time::timeout(election_timeout, watched.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => {
                failure.send_replace(Some(Ending::Other("its core is gone".into())));
                return;
            }
        }
    }
}

fn observe(id: MemberId, metrics: &RaftMetrics, lost_after: Duration) -> Seen {
    let voters: Vec<MemberId> = metrics.membership_config.voter_ids().collect();
    let leads = metrics.current_leader == Some(id);
    let silence = metrics.millis_since_quorum_ack.unwrap_or(0);
    Seen {
        leader: metrics.current_leader,
        quorum: !leads || voters.len() < 2 || u128::from(silence) < lost_after.as_millis(),
        members: metrics
            .membership_config
            .nodes()
            .map(|(member, _)| (*member, voters.contains(member)))
            .collect(),
    }
}

fn log_changes(id: MemberId, metrics: &RaftMetrics, before: &Seen, now: &Seen) {
    let term = metrics.current_term;
    if now.leader != before.leader {
        match now.leader {
            Some(leader) if leader == id => tracing::info!(term, "this member leads now"),
            Some(leader) => {
                let node = metrics.membership_config.membership().get_node(&leader);
                let name = node.map_or("?", |node| node.name.as_str());
                tracing::info!(leader = name, id = leader, term, "following a new leader");
            }
            None => tracing::warn!(term, "no leader is known"),
        }
    }
    match (before.quorum, now.quorum) {
        (true, false) => tracing::warn!("quorum lost: the other members do not answer"),
        (false, true) => tracing::info!("quorum found again"),
        _ => {}
    }
    if now.members != before.members && !now.members.is_empty() {
        let voters = now.members.iter().filter(|(_, voter)| *voter).count();
        let learners = now.members.len() - voters;
        tracing::info!(voters, learners, "membership");
    }
}
