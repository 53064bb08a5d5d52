//! Takes an operator's change to the leader, be it this member or another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::change::{Changed, MembershipChange, Progress};
use crate::cluster::view::View;
use crate::error::{Error, Result};
use crate::members::membership::Membership;
use crate::members::verbs::find;
use crate::peer::client::{CallError, PeerClient};
use crate::peer::message::{AskProgress, Declined, Reply};
use crate::types::PeerNode;

/// Before a leader is asked again, unless another one is known earlier.
const RETRY: Duration = Duration::from_millis(100);

/// Deadline for a question that costs the leader nothing.
const ANSWER: Duration = Duration::from_millis(500);

/// The way to the leader.
pub(crate) struct ChangeLink {
    pub(crate) view: View,
    pub(crate) membership: Arc<Membership>,
    pub(crate) peers: PeerClient,
}

impl ChangeLink {
    /// Repeats the change until a leader answers what became of it.
    ///
    /// # Errors
    /// [`Error::UnknownMember`], [`Error::ChangeRefused`], [`Error::NoQuorum`] if no leader was found
    /// in time, [`Error::OutcomeUnknown`] if one was and did not answer.
    pub(crate) async fn change(
        &self,
        change: MembershipChange,
        deadline: Duration,
    ) -> Result<Changed> {
        let begun = Instant::now();
        let mut unanswered = false;
        let there = self.there(&change);
        loop {
            let left = deadline.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(match unanswered {
                    true => Error::OutcomeUnknown,
                    false => Error::NoQuorum,
                });
            }
            match self.ask(change.clone(), left).await {
                Some(Ok(changed)) => return Ok(changed),
                Some(Err(Declined::Refused(reason))) => return Err(Error::ChangeRefused(reason)),
                Some(Err(Declined::UnknownMember(reason))) => {
                    // It went with an attempt whose answer was lost.
                    let gone = there.filter(|_| unanswered);
                    return gone.ok_or(Error::UnknownMember(reason));
                }
                Some(Err(_)) => {}
                None => unanswered |= self.view.leader().is_some(),
            }
            self.view.leader_changed(RETRY.min(left)).await;
        }
    }

    /// The member that is to go, if this member knows it.
    fn there(&self, change: &MembershipChange) -> Option<Changed> {
        let MembershipChange::Remove { member, .. } = change else {
            return None;
        };
        let found = find(&self.view.nodes(), member).ok();
        found.map(|(id, PeerNode { name, .. })| Changed { id, name })
    }

    /// `None`: no answer.
    async fn ask(&self, change: MembershipChange, deadline: Duration) -> Option<Reply<Changed>> {
        if self.view.leads() {
            let changed = self.membership.change_for_operator(change);
            return tokio::time::timeout(deadline, changed).await.ok();
        }
        let (id, leader) = self.view.other_leader()?;
        match self.peers.call(id, &leader, change, deadline).await {
            Ok(changed) => Some(Ok(changed)),
            Err(CallError::Declined(declined)) => Some(Err(declined)),
            Err(error) => {
                tracing::debug!(leader = leader.name, %error, "the leader did not answer");
                None
            }
        }
    }

    /// How far everybody is, if the leader can be asked.
    pub(crate) async fn progress(&self) -> Option<Vec<Progress>> {
        if self.view.leads() {
            return self.membership.progress().ok();
        }
        let (id, leader) = self.view.other_leader()?;
        let asked = self.peers.call(id, &leader, AskProgress, ANSWER).await;
        asked.ok()
    }
}
