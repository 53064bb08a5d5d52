//! The replicated format: what a Raft log entry carries and what applying it answers. PURE.
//!
//! Logs and peers of other versions hold these values. Variants and fields are
//! only ever appended; a changed meaning is a new variant.

use serde::{Deserialize, Serialize};

use crate::registry::values::{MemberId, PeerInfo, ProducerId, UnixMillis};

/// One change of the registry.
///
/// Events name producers, never connections: a member reconciles what its connections say with
/// what the registry records, and proposes the difference. An attachment or claim belongs to the
/// member whose [`MemberBatch`] carries the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The member has a session of this producer. Recorded anew by each incarnation of the
    /// member; what the producer claimed through earlier ones stays.
    Attach {
        /// The nsqd.
        producer: ProducerId,
        /// `ip:port` of the nsqd's end of the connection.
        remote_address: String,
        /// What it said about itself.
        info: PeerInfo,
        /// When it identified itself.
        at: UnixMillis,
    },
    /// REGISTER: the nsqd has this topic and, if given, this channel.
    Claim {
        /// Whose claim.
        producer: ProducerId,
        /// The topic; claimed together with any of its channels.
        topic: String,
        /// The channel, if one was named.
        channel: Option<String>,
    },
    /// UNREGISTER: without a channel, all claims below the topic go as well. Claims of the same
    /// name that only away members or earlier incarnations hold go too.
    Release {
        /// Whose claim.
        producer: ProducerId,
        /// The topic.
        topic: String,
        /// The channel, if one was named.
        channel: Option<String>,
    },
    /// The member has no session of this producer any longer: its attachment and claims go.
    Detach {
        /// The nsqd.
        producer: ProducerId,
        /// When its last session ended.
        at: UnixMillis,
    },
    /// The member stopped (or resumed) receiving PINGs of this producer.
    SetActive {
        /// The nsqd.
        producer: ProducerId,
        /// Hidden from /lookup and /nodes while false.
        active: bool,
    },
    /// POST /topic/create.
    CreateTopic {
        /// The topic.
        topic: String,
    },
    /// POST /topic/delete: the topic goes with its channels and every claim on them.
    DeleteTopic {
        /// The topic, literally: `*` is no wildcard.
        topic: String,
    },
    /// POST /channel/create: creates the topic as well.
    CreateChannel {
        /// The topic.
        topic: String,
        /// The channel.
        channel: String,
    },
    /// POST /channel/delete: refused with [`Refusal::ChannelNotFound`] if there is none, unless
    /// another member deleted it a moment ago.
    DeleteChannel {
        /// The topic, literally.
        topic: String,
        /// The channel, literally.
        channel: String,
    },
    /// POST /topic/tombstone: hides matching producers of the topic from /lookup for a while.
    Tombstone {
        /// The topic, literally.
        topic: String,
        /// `broadcast_address:http_port`, compared exactly.
        node: String,
        /// When it was set; setting it again restarts the clock.
        at: UnixMillis,
    },
    /// The leader has not received a keep-alive of a member for some seconds. Hides nothing by
    /// itself; any batch of the member that is applied later ends it.
    Away {
        /// The silent member.
        member: MemberId,
        /// When it was last known to be alive.
        last_heard: UnixMillis,
        /// When the leader noticed.
        at: UnixMillis,
    },
    /// The grace period after a producer's last session at a present member is over: what only
    /// away members or earlier incarnations hold of it goes. No effect if it has attached since.
    Expire {
        /// The nsqd.
        producer: ProducerId,
        /// When that session ended, as the registry has it.
        ended: UnixMillis,
    },
    /// A name that a producer gave up at a present member is held by nobody but away members or
    /// earlier incarnations by now: it goes. No effect if it was claimed again since.
    ExpireName {
        /// The nsqd.
        producer: ProducerId,
        /// The topic.
        topic: String,
        /// The channel, if one was named.
        channel: Option<String>,
        /// When it was given up, as the registry has it.
        released: UnixMillis,
    },
    /// The member left the cluster: its attachments go with it.
    RemoveMember {
        /// The member that left.
        member: MemberId,
    },
    /// Removes a bounded number of claims whose attachments are gone; proposed by the leader while
    /// [`needs_sweep`](crate::registry::db::RegistrationDb::needs_sweep).
    Sweep,
}

/// The events of one member, in the order in which it decided on them.
///
/// A member has one batch in flight and repeats it, unchanged, until it knows its fate;
/// (incarnation, sequence) lets the registry apply it once. The first batch of an incarnation,
/// empty if need be, fences all earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberBatch {
    /// The proposing member.
    pub member: MemberId,
    /// Which incarnation of that member.
    pub incarnation: u64,
    /// Counts the batches of that incarnation, from 1.
    pub sequence: u64,
    /// When the batch was made, by the cluster's clock.
    pub at: UnixMillis,
    /// Applied in this order.
    pub events: Vec<Event>,
}

/// What one Raft log entry carries: the batches that the leader found waiting, then what it
/// noticed itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// At most one batch of each member.
    pub batches: Vec<MemberBatch>,
    /// The leader's own events: [`Event::Away`], [`Event::Expire`],
    /// [`Event::ExpireName`], [`Event::RemoveMember`], [`Event::Sweep`]. They are not retried: a retry could be committed by the next leader,
    /// after the member has returned.
    pub own: Vec<Event>,
}

/// Why an event changed nothing and its proposer has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such channel to delete.
    ChannelNotFound,
    /// The producer has no attachment at the member, or the event is not one that a member may
    /// propose.
    NotAttached,
    /// The name is still being released, step by step.
    Releasing,
}

/// The fate of a [`MemberBatch`] that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchResult {
    /// All events are in the registry, but for the refused ones.
    Applied {
        /// Position in the batch and reason, ascending by position.
        refused: Vec<(u32, Refusal)>,
    },
    /// A newer batch, or a newer incarnation, of the member has been applied before: this one was
    /// a late duplicate and changed nothing.
    Superseded,
}
