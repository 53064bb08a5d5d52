//! Decides which member may give a read index, and which index.
//!
//! A leader may, if a majority of the voters has not voted for a newer one since the read began:
//! the next leader needs the vote of one of them, and commits nothing before. What the leader knows
//! to be committed by then includes every acknowledged write: those of earlier leaders, because they
//! precede its own first entry, which it has applied; its own, because an entry counts as committed
//! before a session or a follower learns of it. That an entry is applied would not be enough: a
//! session is answered while its entry is being applied.
//!
//! The follower that asks is usually a voter too. By asking this leader it confirms that it follows
//! it, and two of three members are a majority: one question is enough.

use std::collections::BTreeSet;
use std::sync::Arc;

use raftlookupd_storage::registration::MemberId;

use crate::cluster::view::View;
use crate::log::log_facts::LogFacts;
use crate::log::registry_state::RegistryState;
use crate::types::LeaderId;

/// One member's authority.
#[derive(Clone)]
pub(crate) struct ReadAuthority {
    pub(crate) view: View,
    pub(crate) facts: Arc<LogFacts>,
    pub(crate) state: Arc<RegistryState>,
}

impl ReadAuthority {
    /// The established leader that this member follows, or is.
    pub(crate) fn leader(&self) -> Option<LeaderId> {
        let vote = self.facts.vote()?;
        vote.committed.then_some(vote.leader_id)
    }

    /// Whether this member has not voted for a newer leader.
    pub(crate) fn follows(&self, leader: LeaderId) -> bool {
        let vote = self.facts.vote();
        vote.is_some_and(|vote| vote.leader_id == leader)
    }

    /// What a read that begins now must see applied, provided that a majority still follows this
    /// leader. `None` if this member is not that leader, or does not know yet what earlier leaders
    /// have committed.
    pub(crate) fn index(&self, leader: LeaderId) -> Option<u64> {
        let applied = self.state.applied_log_id()?;
        let leads = leader.node_id == self.view.me() && self.leader() == Some(leader);
        let index = applied.index.max(self.facts.committed_index());
        (leads && applied.leader_id == leader).then_some(index)
    }

    /// Whether these members are a quorum of the newest membership of this leader.
    pub(crate) fn is_quorum(&self, following: &BTreeSet<MemberId>) -> bool {
        // While a newer membership is not in the view yet, no set of members is.
        let is_newest = self.view.membership_index() >= self.facts.membership_index();
        is_newest && self.view.is_quorum(following)
    }
}
