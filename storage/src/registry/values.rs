//! The values that a registration is made of, in upstream's words. PURE.
//!
//! Upstream keys everything by (category, key, subkey). Here the categories are
//! types: a *client* is a [`ProducerId`] with at least one attachment, a *topic*
//! and a *channel* are names.

use serde::{Deserialize, Serialize};

/// A member of the cluster, by its Raft node id. Never reused within a cluster.
pub type MemberId = u64;

/// Milliseconds since the Unix epoch by the cluster's clock, stamped by whoever proposed the event.
pub type UnixMillis = u64;

/// A producer's number: the smallest one free when it first attached, so it is the same at
/// every member.
pub type ProducerNumber = u32;

/// An attachment's number, given in the same way. It stands for (producer, member) in the many
/// claim rows, and for one attachment only: one that is made after a detach has another number
/// while claims of the old one are still being removed.
pub type AttachmentNumber = u32;

/// The end of a name that marks a topic or channel as ephemeral (`nsqlookupd` and `nsqd` alike).
const EPHEMERAL_SUFFIX: &str = "#ephemeral";

/// Whether a topic or channel of this name goes away with its last claim.
pub fn is_ephemeral(name: &str) -> bool {
    name.ends_with(EPHEMERAL_SUFFIX)
}

/// What makes one nsqd one producer: the address that a consumer would dial.
///
/// The same nsqd connected to three members is one producer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerId {
    /// As announced in IDENTIFY; never resolved.
    pub broadcast_address: String,
    /// As announced in IDENTIFY. Upstream accepts any 64-bit integer, so we do.
    pub tcp_port: i64,
}

/// What nsqd says about itself in IDENTIFY, beyond its [`ProducerId`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The machine's own name for itself.
    pub hostname: String,
    /// Where nsqd's HTTP interface listens.
    pub http_port: i64,
    /// nsqd's version.
    pub version: String,
    /// Empty in nsqd up to v1.3.0.
    pub topology_zone: String,
    /// Empty in nsqd up to v1.3.0.
    pub topology_region: String,
}
