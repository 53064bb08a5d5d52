//! Makes the changes that operators ask for; at the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration::MemberId;
use tokio::task::JoinSet;

use super::membership::{ANSWER, Membership};
use super::steps::{self, Objection, Seen, Step};
use crate::change::{Changed, MembershipChange, Progress};
use crate::peer::message::{Declined, Removed, Reply};
use crate::types::PeerNode;
use crate::write::proposer::leads;

type Members = BTreeMap<MemberId, PeerNode>;

impl Membership {
    /// Makes a change. [`Declined::NotLeader`]: nothing was done, or this member stopped leading
    /// halfway; ask the leader.
    pub(crate) async fn change_for_operator(&self, change: MembershipChange) -> Reply<Changed> {
        let _one_at_a_time = self.changing.lock().await;
        if !leads(&self.raft).await {
            return Err(Declined::NotLeader);
        }
        match change {
            MembershipChange::Add { name, address } => self.announce(name, address).await,
            MembershipChange::Remove { member, force } => self.remove(&member, force).await,
            MembershipChange::TransferLeader { to } => self.transfer(to.as_deref()).await,
        }
    }

    /// How far everybody is.
    pub(crate) fn progress(&self) -> Reply<Vec<Progress>> {
        if !self.view.leads() {
            return Err(Declined::NotLeader);
        }
        let progress = self.view.nodes().into_keys().map(|id| Progress {
            id,
            lag: match id == self.view.me() {
                true => Some(0),
                false => self.handover.lag(id),
            },
            heard: match id == self.view.me() {
                true => Some(Duration::ZERO),
                false => {
                    let heard = self.view.contact().last_accepted(id);
                    heard.map(|at| at.elapsed())
                }
            },
        });
        Ok(progress.collect())
    }

    /// An announced member is a learner without an instance: that is replicated, survives a change
    /// of the leader, is listed, and fixes its node id.
    async fn announce(&self, name: String, address: String) -> Reply<Changed> {
        let members = self.view.nodes();
        for (id, known) in &members {
            if known.name == name && known.is_announced() {
                if known.address != address {
                    let node = PeerNode::announced(name.clone(), address);
                    self.set_node(*id, node).await?;
                }
                return Ok(Changed { id: *id, name });
            }
            if known.name == name {
                return Err(Declined::Refused(format!(
                    "{name} is a member already (id {id}, at {}); if its machine is gone, start it \
                     with the same name and an empty data path, or remove it first",
                    known.address
                )));
            }
            if known.address == address {
                return Err(Declined::Refused(format!(
                    "{address} is the address of member {} (id {id})",
                    known.name
                )));
            }
        }
        let id = self.next_id(&members);
        tracing::info!(id, name, address, "a new member is announced");
        let node = PeerNode::announced(name.clone(), address);
        self.add_learner(id, node).await?;
        Ok(Changed { id, name })
    }

    async fn remove(&self, member: &str, force: bool) -> Reply<Changed> {
        let members = self.view.nodes();
        let (id, node) = find(&members, member)?;
        let seen = self.look_around(&members).await;
        steps::check(&seen, Step::Remove(id), force).map_err(declined)?;
        if id == self.view.me() {
            let stayed = self.handover.hand_over(None).await.err();
            // The next leader removes this member.
            return Err(stayed.map_or(Declined::NotLeader, |stayed| {
                Declined::Refused(format!(
                    "{} leads, and cannot hand that over: {stayed}",
                    node.name
                ))
            }));
        }
        self.take_out(id).await?;
        tracing::info!(id, name = node.name, force, "a member was removed");
        // It asks the others before it believes it; if it is not reached, it finds out by itself.
        if let Err(error) = self.peers.call(id, &node, Removed, ANSWER).await {
            tracing::debug!(name = node.name, %error, "the removed member was not told");
        }
        let name = node.name;
        Ok(Changed { id, name })
    }

    /// First it loses its vote, then the registry notes that it is gone, so that its id is never used
    /// again, and last it is forgotten. After a crash in between, removing it again completes it.
    async fn take_out(&self, id: MemberId) -> Reply<()> {
        if self.view.voters().contains(&id) {
            let voter = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
            self.change_keeping(voter).await?;
        }
        let member = id;
        self.proposer
            .submit_own(vec![Event::RemoveMember { member }])
            .await?;
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])))
            .await
    }

    async fn transfer(&self, to: Option<&str>) -> Reply<Changed> {
        let members = self.view.nodes();
        let to = to.map(|member| find(&members, member)).transpose()?;
        if let Some((id, node)) = &to {
            let name = node.name.clone();
            if *id == self.view.me() {
                return Ok(Changed { id: *id, name });
            }
            if !self.view.voters().contains(id) {
                return Err(Declined::Refused(format!("{name} does not vote yet")));
            }
        }
        let handed = self.handover.hand_over(to.map(|(id, _)| id)).await;
        let id = handed.map_err(|stayed| Declined::Refused(stayed.to_string()))?;
        let name = members.get(&id).map(|node| node.name.clone());
        Ok(Changed {
            id,
            name: name.unwrap_or_default(),
        })
    }

    /// Who answers, as the instance that the membership has.
    pub(super) async fn look_around(&self, members: &Members) -> Vec<Seen> {
        let voters = self.view.voters();
        let mut asked = JoinSet::new();
        for (id, node) in members.clone() {
            let (peers, me) = (self.peers.clone(), self.me.clone());
            let (myself, voter) = (id == self.view.me(), voters.contains(&id));
            asked.spawn(async move {
                let answer = peers.ask(&node.address, me, ANSWER).await;
                let is_it = answer.is_ok_and(|answer| answer.me.instance == node.instance);
                let answers = myself || is_it;
                let name = node.name;
                Seen {
                    id,
                    name,
                    voter,
                    answers,
                }
            });
        }
        let mut seen = asked.join_all().await;
        seen.sort_by_key(|member| member.id);
        seen
    }
}

/// The member of this name, or of this node id.
pub(super) fn find(members: &Members, wanted: &str) -> Reply<(MemberId, PeerNode)> {
    let named: Vec<_> = members
        .iter()
        .filter(|(_, node)| node.name == wanted)
        .collect();
    match named[..] {
        [(id, node)] => return Ok((*id, node.clone())),
        [] => {}
        _ => {
            let ids: Vec<String> = named.iter().map(|(id, _)| id.to_string()).collect();
            return Err(Declined::Refused(format!(
                "{wanted} is being replaced: give the node id of one of them, {}",
                ids.join(" or ")
            )));
        }
    }
    let by_id = wanted.parse().ok().and_then(|id| {
        let node: &PeerNode = members.get(&id)?;
        Some((id, node.clone()))
    });
    by_id.ok_or_else(|| {
        let known: Vec<&str> = members.values().map(|node| node.name.as_str()).collect();
        Declined::UnknownMember(format!(
            "no member is called {wanted:?}; there are {}",
            known.join(", ")
        ))
    })
}

fn declined(objection: Objection) -> Declined {
    match objection {
        Objection::Unknown(_) => Declined::UnknownMember(objection.to_string()),
        _ => Declined::Refused(objection.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_by_name_or_id() {
        let node = |name: &str| PeerNode::announced(name.into(), String::new());
        let members = [
            (1, node("a")),
            (2, node("b")),
            (4, node("b")),
            (5, node("1")),
        ]
        .into();
        let found = |wanted| find(&members, wanted).map(|(id, _)| id);
        assert_eq!(found("a"), Ok(1));
        assert_eq!(found("4"), Ok(4));
        assert_eq!(found("1"), Ok(5), "a name comes first");
        let two = found("b").unwrap_err().to_string();
        assert!(two.ends_with("one of them, 2 or 4"), "{two}");
        for unknown in ["c", "3", "", "-1"] {
            let unknown = found(unknown);
            assert!(matches!(unknown, Err(Declined::UnknownMember(_))));
        }
    }
}
