//! Describes a member and its cluster for operators.

use std::time::Duration;

use raftlookupd_storage::log_table::sync_times::SyncCounts;
use raftlookupd_storage::registration::MemberId;

/// A member's view of the cluster and of itself.
#[derive(Debug, Clone)]
pub struct Status {
    /// 32 hexadecimal digits, drawn when the cluster was formed.
    pub cluster_id: String,
    /// This member's Raft node id.
    pub id: MemberId,
    /// This member's name.
    pub name: String,
    /// The leader, if one is known and has a quorum.
    pub leader: Option<MemberId>,
    /// Raft's term.
    pub term: u64,
    /// The last entry of the log here, committed or not.
    pub last_log_index: u64,
    /// The last entry that the registry here shows.
    pub applied_index: u64,
    /// What the last snapshot contains.
    pub snapshot_index: u64,
    /// The log begins after this index.
    pub purged_index: u64,
    /// 32 hexadecimal digits; equal at all members with the same `applied_index`.
    pub state_hash: String,
    /// Events of this member's sessions that wait to be committed.
    pub pending_events: usize,
    /// Events of this member that were committed since it started.
    pub committed_events: u64,
    /// The log here in bytes.
    pub log_bytes: u64,
    /// Whether the registry's tables were damaged when this member started, and had to be rebuilt.
    pub registry_rebuilt: bool,
    /// How many syncs of the log took how long.
    pub syncs: SyncCounts,
    /// Whether the disk is so full that this member refuses writes, except for deletes.
    pub read_only: bool,
    /// Bytes that are free on the disk.
    pub disk_free_bytes: u64,
    /// All members, learners included.
    pub members: Vec<MemberStatus>,
}

/// One member as another one sees it.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// Its Raft node id.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// Where its peer interface is.
    pub peer_address: String,
    /// Whether it votes; a learner does not.
    pub voter: bool,
    /// Whether it has joined; until then it is only announced.
    pub joined: bool,
    /// Time since it last answered this member; `None` if it never did, or was never asked.
    pub last_contact: Option<Duration>,
}
