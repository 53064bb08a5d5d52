//! Tracks when this member, as the leader, last knew that a quorum followed it.
//!
//! openraft reports an age as of when the metrics were published; a process suspended for an hour
//! still reads milliseconds. We keep the instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;

/// When each member was last sent something that it accepted as from its leader.
#[derive(Debug, Default)]
pub(crate) struct QuorumContact(Mutex<BTreeMap<MemberId, Instant>>);

impl QuorumContact {
    /// A member has accepted what was sent to it at that moment.
    pub(crate) fn accepted(&self, member: MemberId, sent: Instant) {
        let mut accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = accepted.entry(member).or_insert(sent);
        *last = sent.max(*last);
    }

    /// When a member was last sent something that it accepted.
    pub(crate) fn last_accepted(&self, member: MemberId) -> Option<Instant> {
        let accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.get(&member).copied()
    }

    /// For how long this member, which leads, may have been without a quorum; `None` if it never
    /// had one.
    pub(crate) fn age(&self, me: MemberId, configs: &[BTreeSet<MemberId>]) -> Option<Duration> {
        // A joint configuration needs a majority of each.
        let ages = configs.iter().map(|voters| self.age_among(me, voters));
        ages.max_by_key(|age| age.unwrap_or(Duration::MAX))?
    }

    fn age_among(&self, me: MemberId, voters: &BTreeSet<MemberId>) -> Option<Duration> {
        let accepted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ages: Vec<Duration> = voters
            .iter()
            .filter_map(|voter| match *voter == me {
                true => Some(Duration::ZERO),
                false => accepted.get(voter).map(Instant::elapsed),
            })
            .collect();
        ages.sort_unstable();
        ages.get(voters.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_counts_and_its_slowest() {
        let contact = QuorumContact::default();
        let age = |voters: &[MemberId]| contact.age_among(1, &voters.iter().copied().collect());
        assert_eq!(age(&[1]), Some(Duration::ZERO));
        assert_eq!(age(&[1, 2, 3]), None);
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let now = Instant::now() + hour;
        let ago = |age: Duration| now.checked_sub(age + hour).unwrap();
        contact.accepted(2, ago(hour));
        assert!(age(&[1, 2, 3]).unwrap() >= hour);
        assert_eq!(age(&[1, 2, 3, 4, 5]), None);
        contact.accepted(3, ago(minute));
        // Answers may arrive in another order than they were asked for.
        contact.accepted(3, ago(hour));
        assert!((minute..hour).contains(&age(&[1, 2, 3]).unwrap()));
        assert!(age(&[1, 2, 3, 4, 5]).unwrap() >= hour);
        // A leader that is no longer a voter does not count.
        assert!(age(&[2, 3]).unwrap() >= hour);
    }
}
