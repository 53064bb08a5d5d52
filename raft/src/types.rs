//! Sets openraft's type parameters, and names its generic types.

use openraft::TokioRuntime;
use raftlookupd_storage::event::{BatchResult, Proposal};
use raftlookupd_storage::registration::MemberId;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// One Raft log entry carries a [`Proposal`]; applying it gives [`ProposalResult`].
    pub TypeConfig:
        D = Proposal,
        R = ProposalResult,
        NodeId = MemberId,
        Node = PeerNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = tokio::fs::File,
        AsyncRuntime = TokioRuntime,
);

/// What the membership knows of a member besides its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerNode {
    /// The operator's name for it; a replaced member keeps the name, not the id.
    pub name: String,
    /// `host:port` of its peer interface; resolved at every dial.
    pub address: String,
    /// Drawn at random when its data path was first used: a member that lost its disk is
    /// another member with the same name.
    pub instance: u128,
}

impl PeerNode {
    /// One that was announced, and has not joined yet.
    pub(crate) fn announced(name: String, address: String) -> Self {
        PeerNode {
            name,
            address,
            instance: NOT_JOINED,
        }
    }

    /// Whether it has yet to join.
    pub(crate) fn is_announced(&self) -> bool {
        self.instance == NOT_JOINED
    }
}

/// The instance of a member that has not joined: no data path draws it, but for one in 2^128.
const NOT_JOINED: u128 = 0;

/// What applying one log entry gives: a result per batch, nothing for Raft's own entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalResult {
    /// In the order of the proposal's batches.
    pub results: Vec<BatchResult>,
}

/// The Raft node.
pub type Raft = openraft::Raft<TypeConfig>;
/// A log entry.
pub type Entry = openraft::Entry<TypeConfig>;
/// Position in the log: leader's term and id, and index.
pub type LogId = openraft::LogId<MemberId>;
/// A leader: its term and its id.
pub type LeaderId = openraft::LeaderId<MemberId>;
/// Who was voted for in which term.
pub type Vote = openraft::Vote<MemberId>;
/// A membership with the position where it was set.
pub type StoredMembership = openraft::StoredMembership<MemberId, PeerNode>;
/// What a snapshot contains.
pub type SnapshotMeta = openraft::SnapshotMeta<MemberId, PeerNode>;
/// A snapshot with its data.
pub type Snapshot = openraft::Snapshot<TypeConfig>;
/// What openraft reports about itself.
pub type RaftMetrics = openraft::RaftMetrics<MemberId, PeerNode>;
/// An error of our storage in the form that openraft expects.
pub type StorageError = openraft::StorageError<MemberId>;
