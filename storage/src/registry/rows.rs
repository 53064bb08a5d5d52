//! Encodes the registry as rows, for disk and snapshots: ordered keys, small values. PURE.
//!
//! Every row is one fact. A key starts with a letter for its kind. Names end with a zero byte (no
//! valid name contains one) and numbers are big-endian, so that keys sort as the values do. The sum
//! of all row hashes is the state hash.

mod key;
mod topic_fact;

use serde::{Deserialize, Serialize};

use super::event::Refusal;
pub use super::values::{AttachmentNumber, ProducerNumber};
use super::values::{MemberId, PeerInfo, ProducerId, UnixMillis};
use crate::encoding::{decode, encode};
use crate::error::Result;
use key::{KeyReader, KeyWriter, bad_key};
pub(crate) use topic_fact::TopicFact;
pub use topic_fact::row_hash;

/// A changed row that belongs to no topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// Its key.
    pub key: Vec<u8>,
    /// Its new value; `None` removes the row.
    pub value: Option<Vec<u8>>,
}

/// One fact of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// `m member`: what is known about a member.
    Member(MemberId, MemberRow),
    /// `s member incarnation`: when that incarnation began. Kept while attachments of earlier ones
    /// exist.
    Start(MemberId, u64, Start),
    /// `p number`: the producer with this number.
    Producer(ProducerNumber, ProducerRow),
    /// `a number`: a member has a session of a producer.
    Attachment(AttachmentNumber, AttachmentRow),
    /// `d topic channel`: a channel that was deleted recently.
    Deleted(String, String, DeletedRow),
    /// `t topic`: the topic is listed.
    Topic(String),
    /// `c topic channel`: the channel is listed.
    Channel(String, String),
    /// `q topic number`: a claim of a topic, and whether it is being released step by step.
    TopicClaim(String, AttachmentNumber, bool),
    /// `r topic channel number`: a claim of a channel.
    ChannelClaim(String, String, AttachmentNumber),
    /// `x topic number`: when the producer was tombstoned for the topic.
    Tombstone(String, ProducerNumber, UnixMillis),
    /// `u topic number`: when the producer released the topic at a present member while other
    /// attachments of it still claim it.
    TopicReleased(String, ProducerNumber, UnixMillis),
    /// `v topic channel number`: the same for a channel.
    ChannelReleased(String, String, ProducerNumber, UnixMillis),
}

/// What is known about a member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// The newest incarnation that has proposed a batch.
    pub incarnation: u64,
    /// The last batch of that incarnation that was applied.
    pub sequence: u64,
    /// What was refused in that batch, to answer a repeated one.
    pub refused: Vec<(u32, Refusal)>,
    /// Set while the leader receives no keep-alives from it.
    pub away: Option<Away>,
    /// It was removed from the cluster. Batches of it that arrive late are not applied.
    pub removed: bool,
}

/// A member that the leader receives no keep-alives from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// When the leader noticed. Its attachments are hidden when this is too long ago.
    pub since: UnixMillis,
    /// When it was last known to be alive.
    pub last_heard: UnixMillis,
}

/// The start of a member's incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// When its first batch was made.
    pub at: UnixMillis,
    /// When the previous incarnation was last known to be alive. An estimate if the leader had not
    /// found the member away.
    pub last_heard: UnixMillis,
}

/// A producer with at least one attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerRow {
    /// The address that consumers dial.
    pub id: ProducerId,
    /// When its last session at a present member ended, if it has not attached anywhere since.
    pub ended: Option<UnixMillis>,
}

/// An attachment: this member has at least one session of this producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRow {
    /// The producer.
    pub producer: ProducerNumber,
    /// The member that has the sessions.
    pub member: MemberId,
    /// The incarnation of that member that recorded it.
    pub incarnation: u64,
    /// The nsqd's address, `ip:port`, in the session that was recorded last.
    pub remote_address: String,
    /// What the nsqd reported in IDENTIFY.
    pub info: PeerInfo,
    /// Whether the member receives PINGs from it.
    pub active: bool,
    /// When the nsqd sent IDENTIFY.
    pub at: UnixMillis,
    /// The attachment has ended, and its claims are being removed step by step.
    pub leaving: bool,
}

/// A channel that was deleted recently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedRow {
    /// When it was deleted.
    pub at: UnixMillis,
    /// The members at which the deletion was requested, ascending.
    pub members: Vec<MemberId>,
}

impl Row {
    /// The row's key.
    pub fn key(&self) -> Vec<u8> {
        let key = KeyWriter::new;
        match self {
            Row::Member(member, _) => key(b'm').u64(*member).done(),
            Row::Start(member, incarnation, _) => key(b's').u64(*member).u64(*incarnation).done(),
            Row::Producer(number, _) => key(b'p').u32(*number).done(),
            Row::Attachment(number, _) => key(b'a').u32(*number).done(),
            Row::Deleted(topic, channel, _) => key(b'd').name(topic).name(channel).done(),
            Row::Topic(topic) => TopicFact::Topic.key(topic),
            Row::Channel(topic, channel) => TopicFact::Channel(channel).key(topic),
            Row::TopicClaim(topic, number, releasing) => {
                TopicFact::Claim(*number, *releasing).key(topic)
            }
            Row::ChannelClaim(topic, channel, number) => {
                TopicFact::ChannelClaim(channel, *number).key(topic)
            }
            Row::Tombstone(topic, number, at) => TopicFact::Tombstone(*number, *at).key(topic),
            Row::TopicReleased(topic, number, at) => {
                TopicFact::Released(*number, None, *at).key(topic)
            }
            Row::ChannelReleased(topic, channel, number, at) => {
                TopicFact::Released(*number, Some(channel), *at).key(topic)
            }
        }
    }

    /// The row's value; empty if the key is the whole fact.
    ///
    /// # Errors
    /// [`Error::Encoding`](crate::Error::Encoding) if the value cannot be represented.
    pub fn value(&self) -> Result<Vec<u8>> {
        match self {
            Row::Member(_, row) => encode("a member row", row),
            Row::Start(_, _, start) => encode("a start row", start),
            Row::Producer(_, row) => encode("a producer row", row),
            Row::Attachment(_, row) => encode("an attachment row", row),
            Row::Deleted(_, _, row) => encode("a deleted row", row),
            Row::TopicClaim(_, number, releasing) => {
                Ok(TopicFact::Claim(*number, *releasing).value())
            }
            Row::Tombstone(_, _, at)
            | Row::TopicReleased(_, _, at)
            | Row::ChannelReleased(_, _, _, at) => Ok(at.to_be_bytes().to_vec()),
            Row::Topic(_) | Row::Channel(..) | Row::ChannelClaim(..) => Ok(Vec::new()),
        }
    }

    /// Decodes a row.
    ///
    /// # Errors
    /// [`Encoding`](crate::Error::Encoding) if this module would not write that key with that
    /// value.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Row> {
        let (kind, mut reader) = KeyReader::new(key)?;
        let no_value = || match value {
            [] => Ok(()),
            _ => Err(bad_key(key)),
        };
        let row = match kind {
            b'm' => Row::Member(reader.u64()?, decode("a member row", value)?),
            b's' => Row::Start(reader.u64()?, reader.u64()?, decode("a start row", value)?),
            b'p' => Row::Producer(reader.u32()?, decode("a producer row", value)?),
            b'a' => Row::Attachment(reader.u32()?, decode("an attachment row", value)?),
            b'd' => Row::Deleted(
                reader.name()?,
                reader.name()?,
                decode("a deleted row", value)?,
            ),
            b't' => Row::Topic(reader.name()?),
            b'c' => Row::Channel(reader.name()?, reader.name()?),
            b'q' => {
                let releasing = match value {
                    [] => false,
                    [1] => true,
                    _ => return Err(bad_key(key)),
                };
                Row::TopicClaim(reader.name()?, reader.u32()?, releasing)
            }
            b'r' => Row::ChannelClaim(reader.name()?, reader.name()?, reader.u32()?),
            b'x' | b'u' | b'v' => {
                let at = <[u8; 8]>::try_from(value).map_err(|_| bad_key(key))?;
                let (topic, at) = (reader.name()?, u64::from_be_bytes(at));
                match kind {
                    b'x' => Row::Tombstone(topic, reader.u32()?, at),
                    b'u' => Row::TopicReleased(topic, reader.u32()?, at),
                    _ => Row::ChannelReleased(topic, reader.name()?, reader.u32()?, at),
                }
            }
            _ => return Err(bad_key(key)),
        };
        if matches!(kind, b't' | b'c' | b'r') {
            no_value()?;
        }
        reader.finish()?;
        Ok(row)
    }
}
