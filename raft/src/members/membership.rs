//! Changes the membership: decided by the leader, one change at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration::MemberId;
use tokio::sync::Mutex;

use crate::cluster::view::View;
use crate::log::registry_state::RegistryState;
use crate::peer::client::PeerClient;
use crate::peer::message::{Declined, Hello, JoinAnswer, Promote, Reply};
use crate::types::{PeerNode, Raft, RaftMetrics};
use crate::write::proposer::{Proposer, leads};

/// A learner that lags by at most this many entries is ready to vote.
const READY_LAG: u64 = 100;

/// Deadline for a question to a member that may be gone.
const ANSWER: Duration = Duration::from_millis(500);

/// A change that takes longer is requested again.
const DEADLINE: Duration = Duration::from_secs(10);

/// The leader's side of membership changes.
pub(crate) struct Membership {
    me: Hello,
    cluster: u128,
    raft: Raft,
    view: View,
    peers: PeerClient,
    state: Arc<RegistryState>,
    proposer: Arc<Proposer>,
    changing: Mutex<()>,
}

impl Membership {
    pub(crate) fn new(
        me: Hello,
        cluster: u128,
        raft: Raft,
        view: View,
        peers: PeerClient,
        state: Arc<RegistryState>,
        proposer: Arc<Proposer>,
    ) -> Self {
        Membership {
            me,
            cluster,
            raft,
            view,
            peers,
            state,
            proposer,
            changing: Mutex::const_new(()),
        }
    }

    /// Makes a fresh member a learner with an id that no member ever had. Asking again gives the
    /// same id.
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
        self.check_name_is_free(&node, &members).await?;
        // A removed member is no longer in the membership, but its row stays in the registry.
        let in_membership = members.last_key_value().map(|(id, _)| *id);
        let in_registry = self.state.read(|db| db.last_member());
        let id = in_membership.max(in_registry).map_or(1, |last| last + 1);
        tracing::info!(
            id,
            name = node.name,
            address = node.address,
            "admitting a learner"
        );
        let added = self.raft.add_learner(id, node, false);
        match tokio::time::timeout(DEADLINE, added).await {
            Ok(Ok(_)) => Ok(JoinAnswer { cluster, id }),
            Ok(Err(error)) => Err(Declined::Refused(error.to_string())),
            Err(_) => Err(Declined::NotLeader),
        }
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
        let lag = self.lag(id).ok_or(Declined::NotLeader)?;
        if lag > READY_LAG {
            return Err(Declined::Refused(format!("{lag} entries behind")));
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

    /// How many entries a member misses; `None` if this member does not lead.
    fn lag(&self, id: MemberId) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics: &RaftMetrics = &metrics.borrow();
        let matched = metrics.replication.as_ref()?.get(&id).copied().flatten();
        let last = metrics.last_log_index.unwrap_or(0);
        Some(last.saturating_sub(matched.map_or(0, |id| id.index)))
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
        self.change(ChangeMembers::SetNodes([(id, node)].into()))
            .await
    }

    async fn change(&self, change: ChangeMembers<MemberId, PeerNode>) -> Reply<()> {
        let changed = self.raft.change_membership(change, false);
        match tokio::time::timeout(DEADLINE, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Declined::Refused(error.to_string())),
            Err(_) => Err(Declined::NotLeader),
        }
    }
}
