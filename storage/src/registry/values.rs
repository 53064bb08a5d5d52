//! Defines what a registration consists of, in upstream's words. PURE.
//!
//! Upstream keys everything by (category, key, subkey). Here the categories are types: a *client*
//! is a [`ProducerId`] with at least one attachment; a *topic* and a *channel* are names.

use serde::{Deserialize, Serialize};

/// A member of the cluster, by its Raft node id. Never reused within a cluster.
pub type MemberId = u64;

/// Milliseconds since the Unix epoch on the cluster's clock, stamped by the proposer of the event.
pub type UnixMillis = u64;

/// The number of a producer: the smallest that was free when it first attached, so it is the same
/// at every member.
pub type ProducerNumber = u32;

/// The number of an attachment, assigned in the same way. The many claim rows name it instead of
/// (producer, member). It names one attachment only: an attachment made after a detach gets another
/// number while claims of the old one are still being removed.
pub type AttachmentNumber = u32;

/// The suffix that marks a topic or channel as ephemeral, as in nsqd and nsqlookupd.
const EPHEMERAL_SUFFIX: &str = "#ephemeral";

/// Whether a topic or channel of this name is removed with its last claim.
pub fn is_ephemeral(name: &str) -> bool {
    name.ends_with(EPHEMERAL_SUFFIX)
}

/// Identifies a producer: the address that a consumer dials.
///
/// An nsqd connected to three members is one producer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerId {
    /// As announced in IDENTIFY; never resolved.
    pub broadcast_address: String,
    /// As announced in IDENTIFY. Any 64-bit integer, as upstream.
    pub tcp_port: i64,
}

/// What nsqd reports about itself in IDENTIFY, beyond its [`ProducerId`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The host's own name.
    pub hostname: String,
    /// The port of nsqd's HTTP interface.
    pub http_port: i64,
    /// nsqd's version.
    pub version: String,
    /// Empty in nsqd up to v1.3.0.
    pub topology_zone: String,
    /// Empty in nsqd up to v1.3.0.
    pub topology_region: String,
}
