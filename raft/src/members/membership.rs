//! Changes of who belongs to the cluster; decided by the leader, one at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration::MemberId;
use tokio::sync::Mutex;

use crate::log::registry_state::RegistryState;
use crate::peer::client::PeerClient;
use crate::peer::message::{Declined, Hello, JoinAnswer, Promote, Reply};
use crate::types::{PeerNode, Raft, RaftMetrics};
use crate::write::proposer::{Proposer, leads};

/// A learner that misses at most this many entries is ready to vote.
const READY_LAG: u64 = 100;

/// For a question to a member that may be gone.
const ANSWER: Duration = Duration::from_millis(500);

/// A change that has not happened by then is asked for again.
const DEADLINE: Duration = Duration::from_secs(10);

/// The leader's say in who belongs to the cluster.
pub(crate) struct Membership {
    me: Hello,
    cluster: u128,
    raft: Raft,
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
        peers: PeerClient,
        state: Arc<RegistryState>,
        proposer: Arc<Proposer>,
    ) -> Self {
        Membership {
            me,
            cluster,
            raft,
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
        let metrics = self.metrics();
        let members = || metrics.membership_config.nodes();
        let cluster = self.cluster;
        if let Some((id, _)) = members().find(|(_, known)| known.instance == node.instance) {
            return Ok(JoinAnswer { cluster, id: *id });
        }
        if !leads(&self.raft).await {
            return Err(Declined::NotLeader);
        }
        self.check_name_is_free(&node, &metrics).await?;
        // A removed member is no longer in the membership, but its row stays in the registry.
        let in_membership = members().map(|(id, _)| *id).max();
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

    /// A member is replaced by one of its name because it lost its disk. One that still answers
    /// with its old instance has lost nothing: somebody was given the wrong name.
    async fn check_name_is_free(&self, node: &PeerNode, metrics: &RaftMetrics) -> Reply<()> {
        for (_, known) in metrics.membership_config.nodes() {
            if known.name != node.name {
                continue;
            }
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
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let Some(node) = membership.get_node(&id) else {
            return Err(Declined::Refused(format!(
                "member {id} is not a learner here"
            )));
        };
        let replaced: BTreeSet<MemberId> = membership
            .nodes()
            .filter(|(other, known)| **other != id && known.name == node.name)
            .map(|(other, _)| *other)
            .collect();
        let mut voters: BTreeSet<MemberId> = membership.voter_ids().collect();
        if !voters.contains(&id) || !replaced.is_empty() {
            let Some(replication) = &metrics.replication else {
                return Err(Declined::NotLeader);
            };
            let matched = replication.get(&id).copied().flatten();
            let lag = metrics.last_log_index.unwrap_or(0) - matched.map_or(0, |id| id.index);
            if lag > READY_LAG {
                return Err(Declined::Refused(format!("{lag} entries behind")));
            }
            voters.insert(id);
            voters.retain(|voter| !replaced.contains(voter));
            self.change(ChangeMembers::ReplaceAllVoters(voters)).await?;
            let gone: BTreeSet<MemberId> = self
                .metrics()
                .membership_config
                .nodes()
                .map(|(id, _)| *id)
                .filter(|id| replaced.contains(id))
                .collect();
            if !gone.is_empty() {
                self.change(ChangeMembers::RemoveNodes(gone)).await?;
            }
            tracing::info!(id, name = node.name, ?replaced, "a learner became a voter");
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

    /// Safe although it replaces a node: messages say whom they are meant for, so another member
    /// behind the address would not take them.
    async fn note_address(&self, id: MemberId, address: String) -> Reply<()> {
        let metrics = self.metrics();
        let node = metrics.membership_config.membership().get_node(&id);
        let Some(moved) = node.filter(|node| node.address != address).cloned() else {
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

    fn metrics(&self) -> RaftMetrics {
        self.raft.metrics().borrow().clone()
    }
}
