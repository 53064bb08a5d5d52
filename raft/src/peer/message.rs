//! What members say to each other: encoded values, as bodies of POST requests; what every write
//! needs, as frames of a [`write_lane`](crate::peer::write_lane).

use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest, VoteResponse};
use raftlookupd_storage::event::MemberBatch;
use raftlookupd_storage::registration::{MemberId, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::types::{PeerNode, TypeConfig};

/// A question that one member asks another by HTTP.
pub(crate) trait PeerRequest: Serialize + DeserializeOwned + Send {
    /// Where it is posted.
    const PATH: &'static str;
    /// What is answered.
    type Answer: Serialize + DeserializeOwned + Send;
}

/// Every message within a cluster says which cluster and which member it is meant for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Addressed<T> {
    /// The sender's cluster.
    pub(crate) cluster: u128,
    /// The sender.
    pub(crate) from: MemberId,
    /// Whom the sender means; an address may have been taken over by another member.
    pub(crate) to: MemberId,
    /// The question.
    pub(crate) message: T,
}

/// Why a member does not answer a question; the question had no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Declined {
    /// The sender belongs to another cluster.
    #[error("it belongs to another cluster ({cluster:032x})")]
    ForeignCluster {
        /// The one asked belongs to this one.
        cluster: u128,
    },
    /// The address leads to another member.
    #[error("its address leads to member {id}")]
    OtherMember {
        /// Who was asked instead.
        id: MemberId,
    },
    /// Not yet part of a cluster, or still loading.
    #[error("it is still loading")]
    Loading,
    /// Only a leader with a quorum could answer.
    #[error("it is not the leader, or has no quorum")]
    NotLeader,
    /// There is a living member of that name.
    #[error("a member called {name} is alive at {address}; every member needs a name of its own")]
    NameTaken {
        /// The name.
        name: String,
        /// Where the living one is reached.
        address: String,
    },
    /// Something in the request makes it impossible.
    #[error("{0}")]
    Refused(String),
}

/// The answer, or why there is none.
pub(crate) type Reply<T> = Result<T, Declined>;

macro_rules! peer_request {
    ($request:ty, $path:literal, $answer:ty) => {
        impl PeerRequest for $request {
            const PATH: &'static str = $path;
            type Answer = $answer;
        }
    };
}

peer_request!(
    VoteRequest<MemberId>,
    "/raft/vote",
    Result<VoteResponse<MemberId>, RaftError<MemberId>>
);
peer_request!(
    InstallSnapshotRequest<TypeConfig>,
    "/raft/snapshot",
    Result<InstallSnapshotResponse<MemberId>, RaftError<MemberId, InstallSnapshotError>>
);

/// A member's batch, for the leader to propose.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SubmitBatch(pub(crate) MemberBatch);

/// The sender is alive, and so are its sessions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeepAlive {
    /// The sender.
    pub(crate) member: MemberId,
}
peer_request!(KeepAlive, "/registry/keep-alive", LeadersWord);

/// The answer to [`KeepAlive`], by a leader only.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LeadersWord {
    /// The cluster's time.
    pub(crate) time: UnixMillis,
    /// Its read index.
    pub(crate) index: u64,
    /// For how long it may have been without a quorum, while others led and committed more.
    pub(crate) without_quorum: Duration,
}

/// The leader is stopping; whoever can should stand for election when its lease is over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeaderLeaves {
    /// The sender, who leads.
    pub(crate) leader: MemberId,
}
peer_request!(LeaderLeaves, "/raft/leader-leaves", ());

/// Sent before the sender belongs to a cluster: who are you, and is there one already?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The sender's name.
    pub(crate) name: String,
    /// See [`PeerNode::instance`].
    pub(crate) instance: u128,
    /// The `--initial-cluster` that the sender was started with: (name, address), sorted.
    pub(crate) initial: Vec<(String, String)>,
}
peer_request!(Hello, "/cluster/hello", HelloAnswer);

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelloAnswer {
    /// The same about the one asked.
    pub(crate) me: Hello,
    /// Its cluster, once it belongs to one that has been formed.
    pub(crate) formed: Option<FormedCluster>,
}

/// A cluster that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormedCluster {
    /// Drawn at random when it was formed.
    pub(crate) cluster: u128,
    /// Its members as the one asked knows them.
    pub(crate) members: Vec<(MemberId, PeerNode)>,
    /// The leader, if one is known.
    pub(crate) leader: Option<MemberId>,
}

/// A fresh member asks to be let in; it becomes a learner. Repeating it is harmless.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Join {
    /// The fresh member.
    pub(crate) node: PeerNode,
}
peer_request!(Join, "/cluster/join", JoinAnswer);

/// The answer to [`Join`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JoinAnswer {
    /// The cluster.
    pub(crate) cluster: u128,
    /// The new member's id, never used before.
    pub(crate) id: MemberId,
}

/// A member says where it is reached now, and asks to be a voter in place of any other member of
/// its name. Declined with [`Declined::Refused`] while it lags.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Promote {
    /// The member.
    pub(crate) id: MemberId,
    /// `host:port` of its peer interface.
    pub(crate) address: String,
}
peer_request!(Promote, "/cluster/promote", ());
