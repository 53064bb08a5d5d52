//! Passes the time to the owner, which has no clock.

use std::time::Duration;

use raftlookupd_raft::storage::registration::UnixMillis;

/// An instant of this process's monotonic clock, as the time since a fixed one.
pub type Moment = Duration;

/// The time of a call.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// On the process's own clock.
    pub moment: Moment,
    /// On the cluster's clock.
    pub clock: UnixMillis,
}

/// A duration as the cluster's clock counts.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
