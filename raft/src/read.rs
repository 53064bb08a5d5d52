//! Proves that a local read is recent enough.
//!
//! - `barrier`: concurrent reads share rounds.
//! - `round`: one round asks for a read index, here or at the leader.
//! - `authority`: who may answer that, and when.
//! - `clock`: the cluster's time, which the answers carry.

pub(crate) mod authority;
pub(crate) mod barrier;
pub(crate) mod clock;
pub(crate) mod round;
