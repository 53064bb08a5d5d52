//! Holds the configuration of a member's share of the cluster.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use raftlookupd_storage::registration::UnixMillis;

use crate::error::{Error, Result};

/// A snapshot is taken when the log has grown by this many bytes, however few entries they are.
pub(crate) const LONGEST_LOG: u64 = 32 * 1024 * 1024;

/// Bytes in one piece of a snapshot.
const SNAPSHOT_CHUNK: u64 = 1024 * 1024;

/// Deadline for one piece of a snapshot; for the last one it includes the installation.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// Most entries in one AppendEntries message; its bytes are bounded as well.
const APPEND_ENTRIES: u64 = 64;

/// How this member becomes part of a cluster when its data path is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forming {
    /// A cluster of one.
    Alone,
    /// The first members, this one included: name and `host:port` of the peer interface.
    Initial(BTreeMap<String, String>),
}

impl Forming {
    /// (name, address), sorted by name; empty for a cluster of one.
    pub(crate) fn initial(&self) -> Vec<(String, String)> {
        match self {
            Forming::Alone => Vec::new(),
            Forming::Initial(members) => members.clone().into_iter().collect(),
        }
    }
}

/// What a member's share of the cluster is started with.
#[derive(Debug)]
pub struct Config {
    /// The member's name: the operator's, unique in the cluster.
    pub name: String,
    /// The folder that holds all data.
    pub data_path: PathBuf,
    /// Bound by the caller, so that a taken port is reported before anything is touched on disk.
    /// `None` for a cluster of one: see [`formed_alone`](crate::formed_alone).
    pub peer_listener: Option<std::net::TcpListener>,
    /// `host:port` at which the other members reach this one.
    pub peer_broadcast_address: String,
    /// How to become part of a cluster, if the data path is empty.
    pub forming: Forming,
    /// Connections to the peer interface at the same time. A quarter of them is shared by dialers
    /// that are not known as members.
    pub most_peer_connections: usize,
    /// Interval between leader heartbeats.
    pub heartbeat_interval: Duration,
    /// A follower without heartbeats waits for the upper end (the leader's lease) and then for
    /// a random time in this range before it stands for election.
    pub election_timeout: Range<Duration>,
    /// The nsqds of a member that has been away for this long are hidden.
    pub member_timeout: Duration,
    /// The member's own wall clock; the cluster's time replaces it as soon as a leader is heard.
    pub wall_clock: UnixMillis,
    /// Entries between two snapshots, each of which lets the log be purged.
    pub snapshot_count: u64,
    /// With fewer bytes free, the member is read-only; `None` for 64 MiB, or a twentieth of the disk
    /// if that is less.
    pub min_free_bytes: Option<u64>,
}

impl Config {
    /// The same, for a member that begins anew.
    ///
    /// # Errors
    /// [`Error::Fatal`] if the listener cannot be shared.
    pub(crate) fn again(&self) -> Result<Config> {
        let shared = self.peer_listener.as_ref();
        let shared = shared.map(std::net::TcpListener::try_clone).transpose();
        let peer_listener =
            shared.map_err(|error| Error::Fatal(format!("peer listener: {error}")))?;
        Ok(Config {
            peer_listener,
            name: self.name.clone(),
            data_path: self.data_path.clone(),
            peer_broadcast_address: self.peer_broadcast_address.clone(),
            forming: self.forming.clone(),
            election_timeout: self.election_timeout.clone(),
            ..*self
        })
    }

    pub(crate) fn openraft(&self) -> Result<Arc<openraft::Config>> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let config = openraft::Config {
            cluster_name: "raftlookupd".into(),
            heartbeat_interval: millis(self.heartbeat_interval),
            election_timeout_min: millis(self.election_timeout.start),
            election_timeout_max: millis(self.election_timeout.end),
            install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
            max_payload_entries: APPEND_ENTRIES,
            // `compaction` takes snapshots and purges the log.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            snapshot_max_chunk_size: SNAPSHOT_CHUNK,
            replication_lag_threshold: self.snapshot_count.saturating_mul(2),
            ..openraft::Config::default()
        };
        let config = config.validate();
        Ok(Arc::new(
            config.map_err(|error| Error::Fatal(error.to_string()))?,
        ))
    }
}
