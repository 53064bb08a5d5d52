//! The replicated format: what a Raft log entry carries and what applying it answers. PURE.
//!
//! Logs and peers of other versions hold these values. Variants and fields are
//! only ever appended; a changed meaning is a new variant.

use serde::{Deserialize, Serialize};

use crate::registration::{MemberId, PeerInfo, ProducerId, SessionId, UnixMillis};

/// One change of the registry.
///
/// Sessions belong to the member whose [`MemberBatch`] carries the event, so an
/// event names only the [`SessionId`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// IDENTIFY: an nsqd has a session at this member. A newer session takes over the
    /// attachment of an older one together with its claims.
    Attach {
        /// The nsqd.
        producer: ProducerId,
        /// Its session here.
        session: SessionId,
        /// `ip:port` of the nsqd's end of the connection.
        remote_address: String,
        /// What it told of itself.
        info: PeerInfo,
        /// When it identified itself.
        at: UnixMillis,
    },
    /// REGISTER: the nsqd has this topic and, if given, this channel.
    Claim {
        /// Whose claim.
        session: SessionId,
        /// The topic; claimed together with any of its channels.
        topic: String,
        /// The channel, if one was named.
        channel: Option<String>,
    },
    /// UNREGISTER: without a channel, all claims below the topic go as well.
    Release {
        /// Whose claim.
        session: SessionId,
        /// The topic.
        topic: String,
        /// The channel, if one was named.
        channel: Option<String>,
    },
    /// The session is over: its attachment and all its claims go. No effect on a session
    /// that a newer one has superseded.
    Detach {
        /// The session that ended.
        session: SessionId,
    },
    /// The owner of the session has stopped (or begun again) to hear PINGs.
    SetActive {
        /// Whose attachment.
        session: SessionId,
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
    /// POST /channel/delete: refused with [`Refusal::ChannelNotFound`] if there is none.
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
    /// The leader has not heard a member for too long: its attachments are hidden.
    SuspendMember {
        /// The silent member.
        member: MemberId,
    },
    /// The member is back; its attachments are listed again.
    ResumeMember {
        /// The member that was silent.
        member: MemberId,
    },
    /// The member left the cluster: its attachments go with it.
    RemoveMember {
        /// The member that left.
        member: MemberId,
    },
    /// Some more of the claims go whose sessions have ended; proposed by the leader while
    /// [`needs_sweep`](crate::registration_db::RegistrationDb::needs_sweep).
    Sweep,
}

/// The events of one member, in the order in which its sessions and handlers produced them.
///
/// A member has one batch in flight and repeats it, unchanged, until it knows its fate;
/// (incarnation, sequence) lets the registry apply it once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberBatch {
    /// Who proposes.
    pub member: MemberId,
    /// Which life of that member.
    pub incarnation: u64,
    /// Counts the batches of that life, from 1.
    pub sequence: u64,
    /// Applied in this order.
    pub events: Vec<Event>,
}

/// What one Raft log entry carries: the batches that the leader found waiting, then what it has
/// found out itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// At most one batch of each member.
    pub batches: Vec<MemberBatch>,
    /// The leader's own events; none that needs a session. Nobody repeats them, so what a leader
    /// found out counts as long as it leads, and not when the next one does.
    pub own: Vec<Event>,
}

/// Why an event changed nothing and its sender must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such channel to delete.
    ChannelNotFound,
    /// A newer session of the same nsqd has taken over, or the attachment is gone.
    NotAttached,
}

/// What became of a [`MemberBatch`] that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchResult {
    /// All events are in the registry, but for the refused ones.
    Applied {
        /// Position in the batch and reason, ascending by position.
        refused: Vec<(u32, Refusal)>,
    },
    /// A newer batch, or a newer life, of the member has been applied before: this one was a
    /// late duplicate and changed nothing.
    Superseded,
}
