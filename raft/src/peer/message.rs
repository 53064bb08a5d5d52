//! Defines what members ask each other: one request and one response type for all of it.
//!
//! Variants are only appended, and every change of a type in here raises
//! [`FORMAT`](crate::peer::handshake::FORMAT).

use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use raftlookupd_storage::event::{BatchResult, MemberBatch};
use raftlookupd_storage::registration::{MemberId, UnixMillis};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::change::{Changed, MembershipChange, Progress};
use crate::types::{LeaderId, PeerNode, TypeConfig};

/// The two kinds of connections between members. Long messages have connections of their own,
/// so that a vote or a read never waits behind one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Class {
    /// Log entries, batches, pieces of a snapshot.
    Bulk,
    /// Everything else.
    Small,
}

impl Class {
    /// The longest frame that is accepted on such a connection.
    pub(crate) fn longest_frame(self) -> usize {
        match self {
            // Several times the longest honest message: a piece of a snapshot, or an
            // AppendEntries with one large entry.
            Class::Bulk => 8 * 1024 * 1024,
            // The longest is the answer to Hello, with some hundred bytes for each member.
            Class::Small => 64 * 1024,
        }
    }
}

/// A request with its own type of answer.
pub(crate) trait Call: Send {
    /// What is answered.
    type Answer: Send;
    /// The connections it travels on.
    const CLASS: Class;
    /// As it is sent.
    fn into_request(self) -> Request;
    /// The answer to this kind of request; `None` if the response is to another kind.
    fn answer(response: Response) -> Option<Self::Answer>;
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ty, $class:ident;)*) => {
        /// What one member asks another. All of it may be repeated without harm.
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) enum Request {
            $($(#[$doc])* $name($request),)*
        }

        /// The response to the [`Request`] of the same name.
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) enum Response {
            /// There is no answer, and the request had no effect.
            Declined(Declined),
            $($(#[$doc])* $name($answer),)*
        }

        $(impl Call for $request {
            type Answer = $answer;
            const CLASS: Class = Class::$class;

            fn into_request(self) -> Request {
                Request::$name(self)
            }

            fn answer(response: Response) -> Option<$answer> {
                match response {
                    Response::$name(answer) => Some(answer),
                    _ => None,
                }
            }
        })*
    };
}

calls! {
    /// Raft's AppendEntries.
    Append(AppendEntriesRequest<TypeConfig>) -> AppendAnswer, Bulk;
    /// A member's batch, for the leader to propose.
    Submit(SubmitBatch) -> BatchResult, Bulk;
    /// A piece of a snapshot.
    Snapshot(InstallSnapshotRequest<TypeConfig>) -> SnapshotAnswer, Bulk;
    /// Raft's RequestVote.
    Vote(VoteRequest<MemberId>) -> VoteAnswer, Small;
    /// A follower asks the leader for a read index.
    ReadIndex(ReadIndex) -> Option<ReadPoint>, Small;
    /// A leader asks whether it is still followed.
    Following(Following) -> bool, Small;
    /// The sender is alive.
    KeepAlive(KeepAlive) -> LeadersWord, Small;
    /// The leader is about to stop.
    LeaderLeaves(LeaderLeaves) -> (), Small;
    /// Anyone asks who is there.
    Hello(Hello) -> HelloAnswer, Small;
    /// A fresh member asks to be admitted.
    Join(Join) -> JoinAnswer, Small;
    /// A member asks for its place among the voters.
    Promote(Promote) -> (), Small;
    /// An operator's change, for the leader to make.
    Change(MembershipChange) -> Changed, Small;
    /// How far is everybody?
    Progress(AskProgress) -> Vec<Progress>, Small;
    /// The leader has removed the receiver.
    Removed(Removed) -> (), Small;
}

/// The answer to an AppendEntries.
pub(crate) type AppendAnswer = Result<AppendEntriesResponse<MemberId>, RaftError<MemberId>>;

/// The answer to a piece of a snapshot.
pub(crate) type SnapshotAnswer =
    Result<InstallSnapshotResponse<MemberId>, RaftError<MemberId, InstallSnapshotError>>;

/// The answer to a RequestVote.
pub(crate) type VoteAnswer = Result<VoteResponse<MemberId>, RaftError<MemberId>>;

/// Why a member does not answer a request; the request had no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Declined {
    /// It belongs to the cluster, but cannot answer yet.
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
    /// Its disk is almost full.
    #[error("its disk is almost full")]
    DiskFull,
    /// The request is about a member that the cluster does not have.
    #[error("{0}")]
    UnknownMember(String),
}

/// The answer, or why there is none.
pub(crate) type Reply<T> = Result<T, Declined>;

/// A member's batch, for the leader to propose.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SubmitBatch(pub(crate) MemberBatch);

/// What must a read that begins now see applied? By asking, the sender says that it follows this
/// leader.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ReadIndex {
    /// The leader that the sender follows.
    pub(crate) leader: LeaderId,
}

/// The answer to [`ReadIndex`]; `None` from a member that does not lead, or no longer leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadPoint {
    /// The index that must be applied.
    pub(crate) index: u64,
    /// The cluster's time.
    pub(crate) time: UnixMillis,
}

/// Does the receiver still follow this leader, which is the sender: has it voted for no newer one?
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Following {
    /// The vote by which the sender leads.
    pub(crate) leader: LeaderId,
}

/// The sender is alive, and so are its sessions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeepAlive;

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

/// The sender leads and is about to give that up; its followers should stand for election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaderLeaves {
    /// Stands first: it has all that the leader has.
    pub(crate) heir: Option<MemberId>,
}

/// Who is there, and does it belong to a cluster already?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The sender's name.
    pub(crate) name: String,
    /// See [`PeerNode::instance`].
    pub(crate) instance: u128,
    /// The `--initial-cluster` that the sender was started with: (name, address), sorted.
    pub(crate) initial: Vec<(String, String)>,
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelloAnswer {
    /// The same about the receiver.
    pub(crate) me: Hello,
    /// The cluster that its data path belongs to. Known before it has loaded.
    pub(crate) belongs_to: Option<u128>,
    /// Whether it has loaded, so that it can vote.
    pub(crate) votes: bool,
    /// Its cluster, once it has loaded and that has been formed.
    pub(crate) formed: Option<FormedCluster>,
}

/// A cluster that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormedCluster {
    /// Drawn at random when it was formed.
    pub(crate) cluster: u128,
    /// Its members as the receiver knows them.
    pub(crate) members: Vec<(MemberId, PeerNode)>,
    /// The leader, if one is known.
    pub(crate) leader: Option<MemberId>,
}

/// A fresh member asks to be admitted; it becomes a learner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Join {
    /// The fresh member.
    pub(crate) node: PeerNode,
}

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

/// How far is every member, as the leader sees it?
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct AskProgress;

/// The leader has removed the receiver, which may ask the others whether that is so.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Removed;
