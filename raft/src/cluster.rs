//! Knows which cluster this is and who leads it.
//!
//! - `identity`: who this member is, on disk.
//! - `forming`: how a member with an empty data path becomes part of a cluster.
//! - `view`: who leads, who votes, where members are reached; the one authority on that.
//! - `leader_contact`: when the leader was last heard.
//! - `quorum_contact`: when a leader was last followed by a quorum.

pub(crate) mod forming;
pub(crate) mod identity;
pub(crate) mod leader_contact;
pub(crate) mod quorum_contact;
pub(crate) mod view;
