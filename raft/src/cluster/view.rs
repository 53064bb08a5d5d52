//! Shows this member's view of the cluster: who leads, who votes, where members are reached.
//!
//! Everything that depends on the leader or on a majority asks here. The view follows openraft's
//! metrics, which are published a moment after the fact; what must not be late by that moment is in
//! [`LogFacts`](crate::log::log_facts::LogFacts).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;
use tokio::sync::watch;

use crate::cluster::quorum_contact::QuorumContact;
use crate::types::{PeerNode, RaftMetrics, StoredMembership};

/// A leader that was not followed, or not heard, for this many lower election timeouts is none.
const LOST_AFTER: u32 = 3;

/// One member's view; clones share it.
#[derive(Clone)]
pub(crate) struct View {
    me: MemberId,
    metrics: watch::Receiver<RaftMetrics>,
    contact: Arc<QuorumContact>,
    lost_after: Duration,
}

/// The least number that is a majority.
pub(crate) fn majority(of: usize) -> usize {
    of / 2 + 1
}

/// Whether so many are a majority.
pub(crate) fn is_majority(count: usize, of: usize) -> bool {
    count >= majority(of)
}

impl View {
    /// The view of this member; `contact` says when it was last followed, and `election_timeout` is
    /// the lower one.
    pub(crate) fn new(
        me: MemberId,
        metrics: watch::Receiver<RaftMetrics>,
        contact: Arc<QuorumContact>,
        election_timeout: Duration,
    ) -> Self {
        View {
            me,
            metrics,
            contact,
            lost_after: election_timeout.saturating_mul(LOST_AFTER),
        }
    }

    /// This member.
    pub(crate) fn me(&self) -> MemberId {
        self.me
    }

    /// The leader, if one is known.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        self.metrics.borrow().current_leader
    }

    /// The leader that operators are told of: one that has a quorum, as far as this member can
    /// know. openraft names a leader for as long as it knows of no other. `heard` says when this member last
    /// accepted something from a leader.
    pub(crate) fn confirmed_leader(&self, heard: Option<Instant>) -> Option<MemberId> {
        let confirmed = match self.leads() {
            true => self.leads_with_quorum(self.lost_after),
            false => heard.is_some_and(|heard| heard.elapsed() < self.lost_after),
        };
        self.leader().filter(|_| confirmed)
    }

    /// How long a leader may be without a quorum before it counts as one that has lost it.
    pub(crate) fn lost_after(&self) -> Duration {
        self.lost_after
    }

    /// Whether this member leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.leader() == Some(self.me)
    }

    /// The leader, if one is known and is another member.
    pub(crate) fn other_leader(&self) -> Option<(MemberId, PeerNode)> {
        let leader = self.leader().filter(|leader| *leader != self.me)?;
        Some((leader, self.node(leader)?))
    }

    /// Whether this member leads and was followed by a majority within this time.
    pub(crate) fn leads_with_quorum(&self, within: Duration) -> bool {
        self.leads() && self.quorum_age().is_some_and(|age| age < within)
    }

    /// For how long this member, which leads, may have been without a quorum; `None` if it never
    /// had one.
    pub(crate) fn quorum_age(&self) -> Option<Duration> {
        let metrics = self.metrics.borrow();
        let membership = metrics.membership_config.membership();
        self.contact.age(self.me, membership.get_joint_config())
    }

    /// When a member last accepted something from this one as its leader.
    pub(crate) fn contact(&self) -> &QuorumContact {
        &self.contact
    }

    /// Raft's term.
    pub(crate) fn term(&self) -> u64 {
        self.metrics.borrow().current_term
    }

    /// A member.
    pub(crate) fn node(&self, id: MemberId) -> Option<PeerNode> {
        self.with_membership(|membership| membership.membership().get_node(&id).cloned())
    }

    /// Whether this is a member.
    pub(crate) fn knows(&self, id: MemberId) -> bool {
        self.with_membership(|membership| membership.membership().get_node(&id).is_some())
    }

    /// All members, learners included.
    pub(crate) fn nodes(&self) -> BTreeMap<MemberId, PeerNode> {
        self.with_membership(|membership| {
            let nodes = membership.nodes();
            nodes.map(|(id, node)| (*id, node.clone())).collect()
        })
    }

    /// The members that vote.
    pub(crate) fn voters(&self) -> BTreeSet<MemberId> {
        self.with_membership(|membership| membership.voter_ids().collect())
    }

    /// The other members that vote.
    pub(crate) fn other_voters(&self) -> Vec<(MemberId, PeerNode)> {
        self.with_membership(|membership| {
            let others = membership.voter_ids().filter(|id| *id != self.me);
            let membership = membership.membership();
            others
                .filter_map(|id| Some((id, membership.get_node(&id)?.clone())))
                .collect()
        })
    }

    /// Whether these members are a quorum: a majority of the voters, of both sets while the
    /// membership changes.
    pub(crate) fn is_quorum(&self, members: &BTreeSet<MemberId>) -> bool {
        self.with_membership(|membership| {
            let configs = membership.membership().get_joint_config();
            let has_majority = |voters: &BTreeSet<MemberId>| {
                is_majority(voters.intersection(members).count(), voters.len())
            };
            !configs.is_empty() && configs.iter().all(has_majority)
        })
    }

    /// Where in the log the membership was set; 0 if there is none.
    pub(crate) fn membership_index(&self) -> u64 {
        self.with_membership(|membership| membership.log_id().map_or(0, |id| id.index))
    }

    /// Waits until the leader is another one than now, at most this long.
    pub(crate) async fn leader_changed(&self, at_most: Duration) {
        let leader = self.leader();
        let mut metrics = self.metrics.clone();
        let changed = metrics.wait_for(|metrics| metrics.current_leader != leader);
        // Both a change and the end of the time are reasons to go on.
        let _ = tokio::time::timeout(at_most, changed).await;
    }

    /// Resolves when a leader other than this one is known.
    pub(crate) async fn another_leader(&self, than: Option<MemberId>) {
        let mut metrics = self.metrics.clone();
        let another = |leader: Option<MemberId>| leader.is_some() && leader != than;
        let found = metrics.wait_for(|metrics| another(metrics.current_leader));
        if found.await.is_err() {
            // Raft has ended, and with it everything that waits here.
            std::future::pending::<()>().await;
        }
    }

    fn with_membership<T>(&self, read: impl FnOnce(&StoredMembership) -> T) -> T {
        read(&self.metrics.borrow().membership_config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogId;
    use openraft::Membership;

    fn metrics(configs: &[&[MemberId]], leader: Option<MemberId>) -> RaftMetrics {
        let configs = configs.iter().map(|ids| ids.iter().copied().collect());
        let nodes: BTreeMap<MemberId, PeerNode> =
            (1..=9).map(|id| (id, PeerNode::default())).collect();
        let membership = Membership::new(configs.collect(), nodes);
        let mut metrics = RaftMetrics::new_initial(1);
        metrics.membership_config = Arc::new(StoredMembership::new(None::<LogId>, membership));
        metrics.current_leader = leader;
        metrics
    }

    fn view(configs: &[&[MemberId]], leader: Option<MemberId>) -> View {
        let (_, metrics) = watch::channel(metrics(configs, leader));
        View::new(1, metrics, Arc::default(), Duration::from_millis(300))
    }

    #[test]
    fn majorities() {
        let sizes = [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)];
        for (of, least) in sizes {
            assert!(
                is_majority(least, of) && !is_majority(least - 1, of),
                "{of}"
            );
        }
        let quorum = |configs: &[&[MemberId]], members: &[MemberId]| {
            view(configs, None).is_quorum(&members.iter().copied().collect())
        };
        assert!(quorum(&[&[1, 2, 3]], &[1, 3]));
        assert!(!quorum(&[&[1, 2, 3]], &[1, 9]), "a learner does not count");
        assert!(!quorum(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3]));
        assert!(quorum(&[&[1, 2, 3], &[3, 4, 5]], &[1, 3, 4]));
        assert!(!quorum(&[], &[1]), "there is no cluster yet");
    }

    #[test]
    fn the_leader() {
        let led = view(&[&[1, 2, 3]], Some(2));
        assert!(!led.leads() && !led.leads_with_quorum(Duration::MAX));
        assert_eq!(led.other_leader().map(|(id, _)| id), Some(2));
        let alone = view(&[&[1]], Some(1));
        assert!(alone.leads_with_quorum(Duration::from_secs(1)));
        assert_eq!(alone.other_leader(), None);
        let unfollowed = view(&[&[1, 2, 3]], Some(1));
        assert!(unfollowed.leads() && !unfollowed.leads_with_quorum(Duration::MAX));
        unfollowed.contact().accepted(3, std::time::Instant::now());
        assert!(unfollowed.leads_with_quorum(Duration::from_secs(60)));
        assert_eq!(view(&[&[1, 2, 3]], None).other_leader(), None);
    }

    #[test]
    fn operators_are_told_of_a_leader_with_a_quorum() {
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_secs(1));
        let led = view(&[&[1, 2, 3]], Some(2));
        assert_eq!(led.confirmed_leader(Some(now)), Some(2));
        assert_eq!(led.confirmed_leader(long_ago), None);
        assert_eq!(led.confirmed_leader(None), None);
        let leads = view(&[&[1, 2, 3]], Some(1));
        assert_eq!(leads.confirmed_leader(Some(now)), None);
        leads.contact().accepted(3, now);
        assert_eq!(leads.confirmed_leader(None), Some(1));
        assert_eq!(view(&[&[1]], Some(1)).confirmed_leader(None), Some(1));
        assert_eq!(view(&[&[1]], None).confirmed_leader(Some(now)), None);
    }
}
