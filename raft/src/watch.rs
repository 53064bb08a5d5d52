//! Watches members and leader, and cleans up.
//!
//! - `liveness`: keep-alives, and the leader's record of who is away by the rules of `absence`.
//! - `election`: shortens the time without a leader.
//! - `first_election`: lets the cluster have a leader as soon as it is formed.
//! - `sweeping`: removes step by step what no longer counts.
//! - `transitions`: one log line for each change.

pub(crate) mod absence;
pub(crate) mod election;
pub(crate) mod first_election;
pub(crate) mod liveness;
pub(crate) mod sweeping;
pub(crate) mod transitions;
