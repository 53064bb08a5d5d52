//! How the registry stands on disk and in snapshots: ordered keys, small values. PURE.
//!
//! Every row is one fact. A key starts with a letter for its kind; names are ended
//! by a zero byte (no valid name contains one) and numbers are big-endian, so that
//! bytes sort as the values do. The sum of all row hashes is the state hash.

use serde::{Deserialize, Serialize};

use crate::encoding::{decode, encode};
use crate::error::{Error, Result};
use crate::event::Refusal;
use crate::registration::{MemberId, PeerInfo, ProducerId, SessionId, UnixMillis};

/// A producer's number: the smallest one free when it first attached, so it is the same at
/// every member. It stands for the [`ProducerId`] in the many claim rows.
pub type ProducerNumber = u32;

/// A row as it is written: `None` deletes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// Where.
    pub key: Vec<u8>,
    /// What.
    pub value: Option<Vec<u8>>,
}

/// One fact of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// `m member`: what is known of a member's batches.
    Member(MemberId, MemberRow),
    /// `p number`: which producer a number stands for.
    Producer(ProducerNumber, ProducerId),
    /// `a number member`: the trace of a session.
    Attachment(ProducerNumber, MemberId, AttachmentRow),
    /// `t topic`: the topic is listed.
    Topic(String),
    /// `c topic channel`: the channel is listed.
    Channel(String, String),
    /// `r topic channel number member`: a claim; an empty channel is the claim of the topic.
    Claim(String, String, ProducerNumber, MemberId),
    /// `x topic number`: when the producer was tombstoned for the topic.
    Tombstone(String, ProducerNumber, UnixMillis),
}

/// What is known of a member's batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// The newest life that has proposed.
    pub incarnation: u64,
    /// The last batch of that life that was applied.
    pub sequence: u64,
    /// What was refused in it, for a repeated question.
    pub refused: Vec<(u32, Refusal)>,
    /// Its attachments are hidden: the leader has not heard it for too long.
    pub suspended: bool,
}

/// The replicated trace of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRow {
    /// The newest session of this producer at this member.
    pub session: SessionId,
    /// `ip:port` of the nsqd's end.
    pub remote_address: String,
    /// What the nsqd told in IDENTIFY.
    pub info: PeerInfo,
    /// Whether its owner hears PINGs.
    pub active: bool,
    /// When it identified itself.
    pub at: UnixMillis,
}

impl MemberRow {
    /// What is left of a member that was removed: no batch of it is ever newer.
    pub fn removed() -> Self {
        MemberRow {
            incarnation: u64::MAX,
            ..MemberRow::default()
        }
    }

    /// Whether this is what is left of a member that was removed.
    pub fn is_removed(&self) -> bool {
        self.incarnation == u64::MAX
    }
}

impl Row {
    /// The row's key.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Row::Member(member, _) => KeyWriter::new(b'm').u64(*member).done(),
            Row::Producer(number, _) => KeyWriter::new(b'p').u32(*number).done(),
            Row::Attachment(number, member, _) => {
                KeyWriter::new(b'a').u32(*number).u64(*member).done()
            }
            Row::Topic(topic) => KeyWriter::new(b't').name(topic).done(),
            Row::Channel(topic, channel) => KeyWriter::new(b'c').name(topic).name(channel).done(),
            Row::Claim(topic, channel, number, member) => KeyWriter::new(b'r')
                .name(topic)
                .name(channel)
                .u32(*number)
                .u64(*member)
                .done(),
            Row::Tombstone(topic, number, _) => {
                KeyWriter::new(b'x').name(topic).u32(*number).done()
            }
        }
    }

    /// The row's value; empty where the key says it all.
    ///
    /// # Errors
    /// [`Error::Encoding`] if the value cannot be represented.
    pub fn value(&self) -> Result<Vec<u8>> {
        match self {
            Row::Member(_, row) => encode("a member row", row),
            Row::Producer(_, id) => encode("a producer row", id),
            Row::Attachment(_, _, row) => encode("an attachment row", row),
            Row::Tombstone(_, _, at) => encode("a tombstone row", at),
            Row::Topic(_) | Row::Channel(..) | Row::Claim(..) => Ok(Vec::new()),
        }
    }

    /// Reads a row back.
    ///
    /// # Errors
    /// [`Error::Encoding`] if key or value is not one that this module writes.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Row> {
        let (&kind, rest) = key.split_first().ok_or_else(|| bad_key(key))?;
        let mut reader = KeyReader { key, rest };
        let row = match kind {
            b'm' => Row::Member(reader.u64()?, decode("a member row", value)?),
            b'p' => Row::Producer(reader.u32()?, decode("a producer row", value)?),
            b'a' => Row::Attachment(
                reader.u32()?,
                reader.u64()?,
                decode("an attachment row", value)?,
            ),
            b't' => Row::Topic(reader.name()?),
            b'c' => Row::Channel(reader.name()?, reader.name()?),
            b'r' => Row::Claim(reader.name()?, reader.name()?, reader.u32()?, reader.u64()?),
            b'x' => Row::Tombstone(
                reader.name()?,
                reader.u32()?,
                decode("a tombstone row", value)?,
            ),
            _ => return Err(bad_key(key)),
        };
        if !reader.rest.is_empty() || (matches!(kind, b't' | b'c' | b'r') && !value.is_empty()) {
            return Err(bad_key(key));
        }
        Ok(row)
    }
}

/// The topic that a row with this key belongs to; `None` if it belongs to none.
pub(crate) fn topic_of(key: &[u8]) -> Option<&str> {
    let (b't' | b'c' | b'r' | b'x', rest) = key.split_first()? else {
        return None;
    };
    let name = rest.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(name).ok()
}

/// Whether a row with this key says that a topic is listed.
pub(crate) fn is_topic(key: &[u8]) -> bool {
    key.first() == Some(&b't')
}

/// The share of one row in the state hash.
///
/// XXH3 with 128 bits (a fixed, published function) over the key's length, the key and the value.
pub fn row_hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

fn bad_key(key: &[u8]) -> Error {
    Error::Encoding {
        what: "a registry row",
        reason: format!("no row has the key {}", key.escape_ascii()),
    }
}

struct KeyWriter(Vec<u8>);

impl KeyWriter {
    fn new(kind: u8) -> Self {
        KeyWriter(vec![kind])
    }

    fn name(mut self, name: &str) -> Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

struct KeyReader<'a> {
    key: &'a [u8],
    rest: &'a [u8],
}

impl KeyReader<'_> {
    fn name(&mut self) -> Result<String> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let (name, rest) = end
            .map(|end| (&self.rest[..end], &self.rest[end + 1..]))
            .ok_or_else(|| bad_key(self.key))?;
        self.rest = rest;
        String::from_utf8(name.to_vec()).map_err(|_| bad_key(self.key))
    }

    fn u32(&mut self) -> Result<u32> {
        self.number().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.number().map(u64::from_be_bytes)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (number, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| bad_key(self.key))?;
        self.rest = rest;
        Ok(*number)
    }
}
