//! Defines the replicated format: what a log entry carries, and the result of applying it. PURE.
//!
//! Logs and peers of other versions hold these values, so variants and fields are only appended,
//! and a changed meaning is a new variant.

use serde::{Deserialize, Serialize};

use crate::registry::values::{MemberId, PeerInfo, ProducerId, UnixMillis};

/// One change of the registry.
///
/// Events name producers, never connections: a member compares what its connections want with what
/// the registry records, and proposes the difference. An attachment or claim belongs to the member
/// whose [`MemberBatch`] carries the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The member has a session of this producer. Each incarnation of the member records it anew;
    /// claims that the producer made through earlier ones stay.
    Attach {
        /// The nsqd.
        producer: ProducerId,
        /// The nsqd's address on that connection, `ip:port`.
        remote_address: String,
        /// What the nsqd reported about itself.
        info: PeerInfo,
        /// When the nsqd sent IDENTIFY.
        at: UnixMillis,
    },
    /// REGISTER: the nsqd has this topic and, if given, this channel of it.
    Claim {
        /// The nsqd.
        producer: ProducerId,
        /// The topic. A claim of a channel claims its topic as well.
        topic: String,
        /// The channel, if one was given.
        channel: Option<String>,
    },
    /// UNREGISTER. Without a channel, all claims below the topic are released. Claims of the same
    /// name that only away members or earlier incarnations hold are released with it.
    Release {
        /// The nsqd.
        producer: ProducerId,
        /// The topic.
        topic: String,
        /// The channel, if one was given.
        channel: Option<String>,
    },
    /// The member has no session of this producer any longer. Its attachment and claims are
    /// removed.
    Detach {
        /// The nsqd.
        producer: ProducerId,
        /// When its last session ended.
        at: UnixMillis,
    },
    /// The member stopped receiving PINGs from this producer, or receives them again.
    SetActive {
        /// The nsqd.
        producer: ProducerId,
        /// While false, the producer is hidden from /lookup and /nodes.
        active: bool,
    },
    /// POST /topic/create.
    CreateTopic {
        /// The topic.
        topic: String,
    },
    /// POST /topic/delete: removes the topic, its channels and every claim on them.
    DeleteTopic {
        /// The topic, literally: `*` is not a wildcard.
        topic: String,
    },
    /// POST /channel/create. Creates the topic as well.
    CreateChannel {
        /// The topic.
        topic: String,
        /// The channel.
        channel: String,
    },
    /// POST /channel/delete. Refused with [`Refusal::ChannelNotFound`] if there is no such channel,
    /// unless another member has just deleted it.
    DeleteChannel {
        /// The topic, literally.
        topic: String,
        /// The channel, literally.
        channel: String,
    },
    /// POST /topic/tombstone: hides matching producers from the topic's /lookup for a while.
    Tombstone {
        /// The topic, literally.
        topic: String,
        /// `broadcast_address:http_port`, compared exactly.
        node: String,
        /// When it was set. Setting it again restarts the time.
        at: UnixMillis,
    },
    /// The leader has not received a keep-alive from a member for some seconds. Hides nothing by
    /// itself. The next batch of the member ends it.
    Away {
        /// The silent member.
        member: MemberId,
        /// When it was last known to be alive.
        last_heard: UnixMillis,
        /// When the leader noticed.
        at: UnixMillis,
    },
    /// The grace period after a producer's last session at a present member is over: attachments of
    /// it that only away members or earlier incarnations hold are removed. No effect if it has
    /// attached since.
    Expire {
        /// The nsqd.
        producer: ProducerId,
        /// When that session ended, as the registry recorded it.
        ended: UnixMillis,
    },
    /// A name that a producer released at a present member is by now held only by away members or
    /// earlier incarnations: those claims are removed. No effect if it was claimed again since.
    ExpireName {
        /// The nsqd.
        producer: ProducerId,
        /// The topic.
        topic: String,
        /// The channel, if one was given.
        channel: Option<String>,
        /// When it was released, as the registry recorded it.
        released: UnixMillis,
    },
    /// The member was removed from the cluster; its attachments are removed with it.
    RemoveMember {
        /// The removed member.
        member: MemberId,
    },
    /// Removes a bounded number of claims whose attachments are gone. The leader proposes it while
    /// [`needs_sweep`](crate::registry::db::RegistrationDb::needs_sweep).
    Sweep,
}

/// One member's events, in the order in which it decided on them.
///
/// A member has one batch in flight and repeats it, unchanged, until it knows the outcome. By
/// (incarnation, sequence) the registry applies it once. The first batch of an incarnation, which
/// may be empty, fences all earlier incarnations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberBatch {
    /// The proposing member.
    pub member: MemberId,
    /// The incarnation of that member.
    pub incarnation: u64,
    /// Counts the batches of that incarnation, from 1.
    pub sequence: u64,
    /// When the batch was made, on the cluster's clock.
    pub at: UnixMillis,
    /// Applied in this order.
    pub events: Vec<Event>,
}

/// The content of one log entry: the members' batches that the leader found waiting, then its own
/// events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// At most one batch per member.
    pub batches: Vec<MemberBatch>,
    /// The leader's own events: [`Event::Away`], [`Event::Expire`], [`Event::ExpireName`],
    /// [`Event::RemoveMember`], [`Event::Sweep`]. They are not retried: a retry could be committed
    /// by the next leader, after the member has returned.
    pub own: Vec<Event>,
}

/// Why an event changed nothing, for its proposer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such channel to delete.
    ChannelNotFound,
    /// The producer has no attachment at the member, or the event is not one that a member may
    /// propose.
    NotAttached,
    /// An earlier release of the name is still being carried out, step by step.
    Releasing,
}

/// The outcome of a [`MemberBatch`] that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchResult {
    /// All events were applied, except the refused ones.
    Applied {
        /// Positions in the batch and reasons, ascending by position.
        refused: Vec<(u32, Refusal)>,
    },
    /// A newer batch or a newer incarnation of the member was applied before. This one arrived late
    /// and changed nothing.
    Superseded,
}
