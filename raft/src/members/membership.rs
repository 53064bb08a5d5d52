//! Changes the membership: decided by the leader, one change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration::MemberId;
use tokio::sync::Mutex;
use tokio::time::error::Elapsed;

use crate::cluster::view::View;
use crate::log::registry_state::RegistryState;
use crate::members::handover::Handover;
use crate::members::steps::{self, Step};
use crate::peer::client::PeerClient;
use crate::peer::message::{Declined, Hello, JoinAnswer, Promote, Reply};
use crate::types::{PeerNode, Raft, TypeConfig};
use crate::write::proposer::{Proposer, leads};

/// A learner that lags by at most this many entries is ready to vote.
const READY_LAG: u64 = 100;

/// Deadline for a question to a member that may be gone.
pub(super) const ANSWER: Duration = Duration::from_millis(500);

/// A change that takes longer is requested again.
const DEADLINE: Duration = Duration::from_secs(10);

/// The leader's side of membership changes.
pub(crate) struct Membership {
    pub(super) me: Hello,
    cluster: u128,
    pub(super) raft: Raft,
    pub(super) view: View,
    pub(super) peers: PeerClient,
    state: Arc<RegistryState>,
    pub(super) proposer: Arc<Proposer>,
    pub(super) handover: Arc<Handover>,
    pub(super) changing: Mutex<()>,
}

impl Membership {
    pub(crate) fn new(
        me: Hello,
        cluster: u128,
        state: Arc<RegistryState>,
        handover: Arc<Handover>,
    ) -> Self {
        Membership {
            me,
            cluster,
            raft: handover.raft.clone(),
            view: handover.view.clone(),
            peers: handover.peers.clone(),
            proposer: handover.proposer.clone(),
            state,
            handover,
            changing: Mutex::const_new(()),
        }
    }

    /// Makes a fresh member a learner: one that was announced, or one that replaces what it was
    /// before it lost its disk. Asking again gives the same id.
    pub(crate) async fn admit(&self, node: PeerNode) -> Reply<JoinAnswer> {
        let _one_at_a_time = self.changing.lock().await;
        let members = self.view.nodes();
        let cluster = self.cluster;
        if let Some((id, _)) = members
            .iter()
            .find(|(_, known)| known.instance == node.instance)
        {
            return Ok(JoinAnswer { cluster, id: *id });
        }
        if !leads(&self.raft).await {
            return Err(Declined::NotLeader);
        }
        let announced = members.iter().find(|(_, known)| known.name == node.name);
        let Some((_, known)) = announced else {
            return Err(Declined::Refused(not_expected(&node)));
        };
        let (id, name, address) = (self.next_id(&members), &node.name, &node.address);
        if let Some((id, known)) = announced.filter(|(_, known)| known.is_announced()) {
            check_announced(known, &node)?;
            tracing::info!(id, name, address, "an announced member joins as a learner");
            self.set_node(*id, node).await?;
            return Ok(JoinAnswer { cluster, id: *id });
        }
        self.check_name_is_free(&node, &members).await?;
        let old = known.address.as_str();
        tracing::info!(
            id,
            name,
            address,
            old,
            "a member with an empty data path joins as a learner"
        );
        self.add_learner(id, node).await?;
        Ok(JoinAnswer { cluster, id })
    }

    /// An id that no member ever had. A removed member is no longer in the membership, but its row
    /// stays in the registry.
    pub(super) fn next_id(&self, members: &BTreeMap<MemberId, PeerNode>) -> MemberId {
        let in_membership = members.last_key_value().map(|(id, _)| *id);
        let in_registry = self.state.read(|db| db.last_member());
        in_membership.max(in_registry).map_or(1, |last| last + 1)
    }

    pub(super) async fn add_learner(&self, id: MemberId, node: PeerNode) -> Reply<()> {
        let added = self.raft.add_learner(id, node, false);
        settled(tokio::time::timeout(DEADLINE, added).await)
    }

    pub(super) async fn set_node(&self, id: MemberId, node: PeerNode) -> Reply<()> {
        self.change(ChangeMembers::SetNodes([(id, node)].into()))
            .await
    }

    /// A member that lost its disk is replaced by one of its name. If the old instance still
    /// answers, nothing was lost: the new member was started with the wrong name.
    async fn check_name_is_free(
        &self,
        node: &PeerNode,
        members: &BTreeMap<MemberId, PeerNode>,
    ) -> Reply<()> {
        for known in members.values().filter(|known| known.name == node.name) {
            let answer = self
                .peers
                .ask(&known.address, self.me.clone(), ANSWER)
                .await;
            if answer.is_ok_and(|answer| answer.me.instance == known.instance) {
                return Err(Declined::NameTaken {
                    name: known.name.clone(),
                    address: known.address.clone(),
                });
            }
        }
        Ok(())
    }

    /// Notes where a member is reached, and makes a learner that has caught up a voter, in place
    /// of every other member of its name.
    pub(crate) async fn promote(&self, Promote { id, address }: Promote) -> Reply<()> {
        let _one_at_a_time = self.changing.lock().await;
        self.note_address(id, address).await?;
        let members = self.view.nodes();
        let Some(node) = members.get(&id) else {
            return Err(Declined::Refused(format!(
                "member {id} is not a learner here"
            )));
        };
        let replaced: BTreeSet<MemberId> = members
            .iter()
            .filter(|(other, known)| **other != id && known.name == node.name)
            .map(|(other, _)| *other)
            .collect();
        if !self.view.voters().contains(&id) || !replaced.is_empty() {
            self.make_voter(id, &replaced).await?;
            let replaced = replaced.len();
            tracing::info!(name = node.name, id, replaced, "a learner became a voter");
        }
        let removals: Vec<Event> = replaced
            .into_iter()
            .map(|member| Event::RemoveMember { member })
            .collect();
        match removals.is_empty() {
            true => Ok(()),
            false => self.proposer.submit_own(removals).await,
        }
    }

    /// Makes a learner that has caught up a voter in place of these.
    async fn make_voter(&self, id: MemberId, replaced: &BTreeSet<MemberId>) -> Reply<()> {
        let lag = self.handover.lag(id).filter(|lag| *lag <= READY_LAG);
        if lag.is_none() {
            return Err(Declined::Refused("it has not caught up yet".into()));
        }
        let steps = match replaced.first() {
            None => vec![None],
            Some(_) => replaced.iter().copied().map(Some).collect(),
        };
        let seen = self.look_around(&self.view.nodes()).await;
        for replaces in steps {
            let step = Step::Promote {
                learner: id,
                replaces,
            };
            steps::check(&seen, step, true)
                .map_err(|objection| Declined::Refused(objection.to_string()))?;
        }
        let mut voters = self.view.voters();
        voters.insert(id);
        voters.retain(|voter| !replaced.contains(voter));
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await?;
        let mut gone: BTreeSet<MemberId> = self.view.nodes().into_keys().collect();
        gone.retain(|id| replaced.contains(id));
        if gone.is_empty() {
            return Ok(());
        }
        self.change(ChangeMembers::RemoveNodes(gone)).await
    }

    /// Safe although it replaces a node: the handshake names the recipient, so another member at
    /// the address refuses the connection.
    async fn note_address(&self, id: MemberId, address: String) -> Reply<()> {
        let node = self.view.node(id);
        let Some(moved) = node.filter(|node| node.address != address) else {
            return Ok(());
        };
        tracing::info!(
            name = moved.name,
            from = moved.address,
            to = address,
            "a member has moved"
        );
        let node = PeerNode { address, ..moved };
        self.set_node(id, node).await
    }

    pub(super) async fn change(&self, change: ChangeMembers<MemberId, PeerNode>) -> Reply<()> {
        let changed = self.raft.change_membership(change, false);
        settled(tokio::time::timeout(DEADLINE, changed).await)
    }

    /// The same, but voters that are removed stay as learners.
    pub(super) async fn change_keeping(
        &self,
        change: ChangeMembers<MemberId, PeerNode>,
    ) -> Reply<()> {
        let changed = self.raft.change_membership(change, true);
        settled(tokio::time::timeout(DEADLINE, changed).await)
    }
}

type Written = Result<ClientWriteResponse<TypeConfig>, RaftError<MemberId, WriteError>>;
type WriteError = ClientWriteError<MemberId, PeerNode>;

/// What openraft made of a change.
fn settled(written: Result<Written, Elapsed>) -> Reply<()> {
    match written {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) | Err(_) => {
            Err(Declined::NotLeader)
        }
        Ok(Err(error)) => Err(Declined::Refused(error.to_string())),
    }
}

/// Nobody has agreed to it: one wrong line in a configuration must not make a voter.
fn not_expected(node: &PeerNode) -> String {
    let PeerNode { name, address, .. } = node;
    format!(
        "no member called {name} is expected: to let it join, run `raftlookupd cluster add {name} \
         {address}` against a member of the cluster"
    )
}

fn check_announced(announced: &PeerNode, node: &PeerNode) -> Reply<()> {
    let PeerNode { name, address, .. } = node;
    if announced.address == *address {
        return Ok(());
    }
    Err(Declined::Refused(format!(
        "{name} was announced at {}, and says that it is at {address}: correct its \
         --peer-broadcast-address, or run `raftlookupd cluster add {name} {address}`",
        announced.address
    )))
}
