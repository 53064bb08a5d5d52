//! Refuses messages of a leader or candidate that no correct one sends. PURE.
//!
//! Raft believes its peers. A term near the largest number would be stored and end every election;
//! entries in the place of applied ones would be written, and found to be a damaged log at the next
//! start. So what contradicts this member's own applied log is turned away before openraft sees it.

use openraft::raft::AppendEntriesRequest;
use raftlookupd_storage::registration::MemberId;

use crate::types::{LogId, SnapshotMeta, TypeConfig, Vote};

/// A term that is further ahead of ours is not the result of elections: one in every 300 ms would
/// take forty years.
const MOST_TERMS_AHEAD: u64 = 1 << 32;

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Implausible {
    /// The term cannot have come about.
    #[error("its term is {term}, the term here is {ours}")]
    Term {
        /// That of the message.
        term: u64,
        /// The one known here.
        ours: u64,
    },
    /// It speaks for another member than the one that has sent it.
    #[error("it speaks for member {id}, which has not sent it")]
    OtherSender {
        /// The member.
        id: MemberId,
    },
    /// It has another entry in the place of one that is applied here.
    #[error("it has entry {index} of term {term}, which contradicts what is applied here")]
    Contradiction {
        /// The place in the log.
        index: u64,
        /// The term that the message gives.
        term: u64,
    },
}

/// Checks the term of any message of a leader or candidate, and that it was sent by that.
///
/// # Errors
/// [`Implausible::OtherSender`], [`Implausible::Term`].
pub(crate) fn check_vote(vote: &Vote, from: MemberId, ours: u64) -> Result<(), Implausible> {
    let (term, id) = (vote.leader_id.term, vote.leader_id.node_id);
    if id != from {
        return Err(Implausible::OtherSender { id });
    }
    match term.saturating_sub(ours) > MOST_TERMS_AHEAD {
        true => Err(Implausible::Term { term, ours }),
        false => Ok(()),
    }
}

/// Checks entries against what is applied; `at` gives the log id at an index, if it is still there.
///
/// # Errors
/// [`Implausible::Contradiction`].
pub(crate) fn check_entries(
    request: &AppendEntriesRequest<TypeConfig>,
    applied: Option<LogId>,
    at: impl Fn(u64) -> Option<LogId>,
) -> Result<(), Implausible> {
    let Some(applied) = applied else {
        return Ok(());
    };
    let entries = request.entries.iter().map(|entry| entry.log_id);
    for id in request.prev_log_id.into_iter().chain(entries) {
        let agrees = match id.index.cmp(&applied.index) {
            std::cmp::Ordering::Greater => id.leader_id.term >= applied.leader_id.term,
            std::cmp::Ordering::Equal => id == applied,
            std::cmp::Ordering::Less => at(id.index).is_none_or(|ours| ours == id),
        };
        if !agrees {
            return Err(contradiction(id));
        }
    }
    Ok(())
}

/// Checks where a snapshot ends against what is applied.
///
/// # Errors
/// [`Implausible::Contradiction`].
pub(crate) fn check_snapshot(
    meta: &SnapshotMeta,
    applied: Option<LogId>,
) -> Result<(), Implausible> {
    let (Some(last), Some(applied)) = (meta.last_log_id, applied) else {
        return Ok(());
    };
    let ahead = last.index > applied.index;
    let contradicts = match ahead {
        true => last.leader_id.term < applied.leader_id.term,
        false => last.leader_id.term > applied.leader_id.term,
    };
    match contradicts || (last.index == applied.index && last != applied) {
        true => Err(contradiction(last)),
        false => Ok(()),
    }
}

fn contradiction(id: LogId) -> Implausible {
    Implausible::Contradiction {
        index: id.index,
        term: id.leader_id.term,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, LeaderId};
    use openraft::EntryPayload;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new(term, 1), index)
    }

    fn request(prev: Option<LogId>, entries: &[LogId]) -> AppendEntriesRequest<TypeConfig> {
        let entries = entries.iter().map(|log_id| Entry {
            log_id: *log_id,
            payload: EntryPayload::Blank,
        });
        AppendEntriesRequest {
            vote: Vote::new_committed(9, 1),
            prev_log_id: prev,
            entries: entries.collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn votes() {
        let ahead = |ahead: u64| check_vote(&Vote::new(7 + ahead, 2), 2, 7).is_ok();
        assert!(ahead(0) && ahead(1) && ahead(1_000_000_000));
        assert!(!ahead(MOST_TERMS_AHEAD + 1) && !ahead(u64::MAX - 7));
        assert_eq!(check_vote(&Vote::new(1, 2), 2, u64::MAX), Ok(()));
        let other = Err(Implausible::OtherSender { id: 2 });
        assert_eq!(check_vote(&Vote::new(7, 2), 3, 7), other);
    }

    #[test]
    fn entries() {
        // Entries 1 to 5 of term 1, 6 to 8 of term 3; applied up to 7; 1 to 3 are purged.
        let at = |index| match index {
            4 | 5 => Some(id(1, index)),
            6..=8 => Some(id(3, index)),
            _ => None,
        };
        let check = |prev, entries: &[LogId]| {
            check_entries(&request(prev, entries), Some(id(3, 7)), at).is_ok()
        };
        assert!(
            check(Some(id(3, 8)), &[id(3, 9), id(4, 10)]),
            "what comes next"
        );
        assert!(check(Some(id(3, 7)), &[id(4, 8)]), "8 is not applied");
        assert!(check(Some(id(1, 5)), &[id(3, 6), id(3, 7)]), "repeated");
        assert!(check(Some(id(1, 2)), &[id(1, 3), id(1, 4)]), "purged");
        assert!(check(None, &[]));
        assert!(
            !check(Some(id(2, 7)), &[]),
            "another entry before the first"
        );
        assert!(!check(Some(id(1, 5)), &[id(2, 6)]), "another entry 6");
        assert!(!check(Some(id(3, 6)), &[id(4, 7)]), "another entry 7");
        assert!(!check(Some(id(2, 9)), &[]), "an older term behind");
        assert!(check_entries(&request(None, &[id(9, 1)]), None, at).is_ok());
    }

    #[test]
    fn snapshots() {
        let check = |last| {
            let meta = SnapshotMeta {
                last_log_id: Some(last),
                ..SnapshotMeta::default()
            };
            check_snapshot(&meta, Some(id(3, 7))).is_ok()
        };
        assert!(check(id(3, 7)) && check(id(3, 9)) && check(id(4, 9)) && check(id(1, 5)));
        assert!(!check(id(2, 7)) && !check(id(2, 9)) && !check(id(4, 5)));
    }
}
