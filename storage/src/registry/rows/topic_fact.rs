//! Encodes and hashes the facts of a topic without copying its names.

use super::key::KeyWriter;
use crate::registry::values::{AttachmentNumber, ProducerNumber, UnixMillis};

/// One fact of a topic. It borrows names: there can be millions of facts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TopicFact<'a> {
    Topic,
    Channel(&'a str),
    Claim(AttachmentNumber, bool),
    ChannelClaim(&'a str, AttachmentNumber),
    Tombstone(ProducerNumber, UnixMillis),
    Released(ProducerNumber, Option<&'a str>, UnixMillis),
}

impl TopicFact<'_> {
    pub(super) fn key(self, topic: &str) -> Vec<u8> {
        let mut key = Vec::new();
        self.write_key(topic, &mut key);
        key
    }

    /// Replaces the contents of `key`.
    fn write_key(self, topic: &str, key: &mut Vec<u8>) {
        let buffer = std::mem::take(key);
        let of = |kind| KeyWriter::reusing(buffer, kind).name(topic);
        let writer = match self {
            TopicFact::Topic => of(b't'),
            TopicFact::Channel(channel) => of(b'c').name(channel),
            TopicFact::Claim(number, _) => of(b'q').u32(number),
            TopicFact::ChannelClaim(channel, number) => of(b'r').name(channel).u32(number),
            TopicFact::Tombstone(number, _) => of(b'x').u32(number),
            TopicFact::Released(number, None, _) => of(b'u').u32(number),
            TopicFact::Released(number, Some(channel), _) => of(b'v').name(channel).u32(number),
        };
        *key = writer.done();
    }

    pub(super) fn value(self) -> Vec<u8> {
        match self {
            TopicFact::Claim(_, true) => vec![1],
            TopicFact::Tombstone(_, at) | TopicFact::Released(_, _, at) => {
                at.to_be_bytes().to_vec()
            }
            TopicFact::Topic
            | TopicFact::Channel(_)
            | TopicFact::Claim(_, false)
            | TopicFact::ChannelClaim(..) => Vec::new(),
        }
    }

    /// The [`row_hash`] of its row; overwrites `scratch`.
    pub(crate) fn hash(self, topic: &str, scratch: &mut Vec<u8>) -> u128 {
        self.write_key(topic, scratch);
        match self {
            TopicFact::Claim(_, true) => row_hash(scratch, &[1]),
            TopicFact::Tombstone(_, at) | TopicFact::Released(_, _, at) => {
                row_hash(scratch, &at.to_be_bytes())
            }
            TopicFact::Topic
            | TopicFact::Channel(_)
            | TopicFact::Claim(_, false)
            | TopicFact::ChannelClaim(..) => row_hash(scratch, &[]),
        }
    }
}

/// The part of the state hash that one row contributes.
///
/// 128-bit XXH3 (a fixed, published function) over the key's length, the key and the value.
pub fn row_hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}
