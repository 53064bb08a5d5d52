//! Names what operators may change about the membership, and what they are answered.

use std::time::Duration;

use raftlookupd_storage::registration::MemberId;
use serde::{Deserialize, Serialize};

/// A change that an operator asks for, at any member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// A member of this name may join. Asked for again, it changes the address.
    Add {
        /// The operator's name for it.
        name: String,
        /// `host:port` of its peer interface.
        address: String,
    },
    /// A member goes for ever, with all that its nsqds have registered there.
    Remove {
        /// Its name, or its node id.
        member: String,
        /// Although it costs the quorum, or the tolerance of failures.
        force: bool,
    },
    /// Another voter leads from now on.
    TransferLeader {
        /// Its name or node id; `None` for the one that misses least.
        to: Option<String>,
    },
}

/// What a change has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The node id of the member that was announced or removed, or leads now.
    pub id: MemberId,
    /// Its name.
    pub name: String,
}

/// How far a member is, as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The member.
    pub id: MemberId,
    /// How many entries of the log it misses; `None` if it has never been reached.
    pub lag: Option<u64>,
    /// Time since the leader last sent it something that it accepted.
    pub heard: Option<Duration>,
}
