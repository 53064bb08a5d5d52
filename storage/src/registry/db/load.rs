//! Builds a registry from its rows, or from packed topics, and checks that they fit together.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::number_pool::NumberPool;
use super::pack::PackedTopic;
use super::topic::Topic;
use super::{Attachment, Producer, RegistrationDb};
use crate::encoding::decode;
use crate::error::{Error, Result};
use crate::registry::rows::{AttachmentNumber, ProducerNumber, Row, Start, TopicFact, row_hash};
use crate::registry::values::{MemberId, UnixMillis, is_ephemeral};

/// The smallest free number is assigned first, so no honest one is nearly this large.
const LARGEST_NUMBER: u32 = 1 << 26;

impl RegistrationDb {
    /// Builds a registry, with its indexes and its state hash, from stored rows in any order.
    ///
    /// # Errors
    /// The errors of the iterator, and [`Error::Encoding`] for a row that does not decode or that
    /// refers to something missing.
    pub fn from_rows(rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>>) -> Result<Self> {
        let mut loader = Loader::default();
        for row in rows {
            let (key, value) = row?;
            loader.row(&key, &value)?;
        }
        loader.finish()
    }
}

/// Builds a registry. Facts that refer to others wait until all are known.
#[derive(Default)]
pub(crate) struct Loader {
    db: RegistrationDb,
    scratch: Vec<u8>,
    starts: Vec<(MemberId, u64, Start)>,
    claims: Vec<(String, AttachmentNumber, bool)>,
    channel_claims: Vec<(String, String, AttachmentNumber)>,
    tombstones: Vec<(String, ProducerNumber, UnixMillis)>,
    released: Vec<(String, Option<String>, ProducerNumber, UnixMillis)>,
}

impl Loader {
    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::Encoding`] if it does not decode.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let db = &mut self.db;
        let hash = row_hash(key, value);
        db.state_hash = db.state_hash.wrapping_add(hash);
        let of_topic = match Row::decode(key, value)? {
            Row::Member(member, row) => {
                db.members.entry(member).or_default().row = row;
                return Ok(());
            }
            Row::Start(member, incarnation, start) => {
                self.starts.push((member, incarnation, start));
                return Ok(());
            }
            Row::Producer(number, row) => {
                db.numbers.insert(row.id.clone(), number);
                db.producers.insert(number, Producer::new(row));
                return Ok(());
            }
            Row::Attachment(number, row) => {
                let topics = BTreeSet::new();
                db.attachments.insert(number, Attachment { row, topics });
                return Ok(());
            }
            Row::Deleted(topic, channel, row) => {
                db.deleted.load(topic, channel, row);
                return Ok(());
            }
            Row::Topic(name) => name,
            Row::Channel(topic, channel) => {
                let entry = db.topics.entry(topic.as_str().into()).or_default();
                entry.channels.insert(channel.into(), 0);
                topic
            }
            Row::TopicClaim(topic, number, releasing) => {
                self.claims.push((topic.clone(), number, releasing));
                topic
            }
            Row::ChannelClaim(topic, channel, number) => {
                self.channel_claims.push((topic.clone(), channel, number));
                topic
            }
            Row::Tombstone(topic, number, at) => {
                self.tombstones.push((topic.clone(), number, at));
                topic
            }
            Row::TopicReleased(topic, number, at) => {
                self.released.push((topic.clone(), None, number, at));
                topic
            }
            Row::ChannelReleased(topic, channel, number, at) => {
                self.released
                    .push((topic.clone(), Some(channel), number, at));
                topic
            }
        };
        let topic = db.topics.entry(of_topic.as_str().into()).or_default();
        topic.hash = topic.hash.wrapping_add(hash);
        Ok(())
    }

    /// Adds a topic that [`RegistrationDb::pack`] has encoded.
    ///
    /// # Errors
    /// [`Error::Encoding`] if it does not decode.
    pub(crate) fn topic(&mut self, name: String, packed: &[u8]) -> Result<()> {
        let packed: PackedTopic = decode("a topic", packed)?;
        let hash = packed.hash(&name, &mut self.scratch)?;
        let mut topic = Topic::default();
        let channels: Vec<Arc<str>> = packed.channels.into_iter().map(Arc::from).collect();
        topic.channels = channels
            .iter()
            .map(|channel| (channel.clone(), 0))
            .collect();
        for claim in packed.claims {
            let held = topic.claims.entry(claim.number).or_default();
            held.releasing = claim.releasing;
            for place in claim.channels {
                let channel = channel_at(&channels, place)?;
                topic.add_channel_claim(&name, claim.number, channel, &mut self.scratch)?;
            }
        }
        topic.tombstones = packed.tombstones.into_iter().collect();
        for (number, channel, at) in packed.released {
            topic.released.insert((number, channel.map(Arc::from)), at);
        }
        topic.hash = hash;
        self.db.state_hash = self.db.state_hash.wrapping_add(topic.hash);
        self.db.topics.insert(name.into(), topic);
        Ok(())
    }

    /// Returns the registry.
    ///
    /// # Errors
    /// [`Error::Encoding`] if a fact refers to something missing.
    pub(crate) fn finish(self) -> Result<RegistrationDb> {
        let Loader {
            mut db,
            mut scratch,
            ..
        } = self;
        for (member, incarnation, start) in self.starts {
            let member = db.members.entry(member).or_default();
            member.starts.insert(incarnation, start);
        }
        db.index_attachments()?;
        for (topic, number, releasing) in self.claims {
            let topic = db.topics.get_mut(topic.as_str());
            let topic = topic.ok_or_else(|| dangling("a claim", "topic"))?;
            topic.claims.entry(number).or_default().releasing = releasing;
        }
        for (name, channel, number) in self.channel_claims {
            let topic = db.topics.get_mut(name.as_str());
            let topic = topic.ok_or_else(|| dangling("a claim", "topic"))?;
            let shared = topic.channels.get_key_value(channel.as_str());
            let (shared, _) = shared.ok_or_else(|| dangling("a claim", "channel"))?;
            let shared = shared.clone();
            topic.add_channel_claim(&name, number, &shared, &mut scratch)?;
        }
        for (topic, number, at) in self.tombstones {
            let topic = db.topics.get_mut(topic.as_str());
            let topic = topic.ok_or_else(|| dangling("a tombstone", "topic"))?;
            topic.tombstones.insert(number, at);
        }
        for (topic, channel, number, at) in self.released {
            let topic = db.topics.get_mut(topic.as_str());
            let topic = topic.ok_or_else(|| dangling("a released name", "topic"))?;
            topic.released.insert((number, channel.map(Arc::from)), at);
        }
        db.index_claims()?;
        Ok(db)
    }
}

impl Topic {
    fn add_channel_claim(
        &mut self,
        name: &str,
        number: AttachmentNumber,
        channel: &Arc<str>,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let claim = self.claims.get_mut(&number);
        let claim = claim.ok_or_else(|| dangling("a claim of a channel", "claim of its topic"))?;
        if claim.has(channel) {
            return Err(dangling("a claim of a channel", "channel of its own"));
        }
        claim.names_mut(channel).insert(channel.clone(), |channel| {
            TopicFact::ChannelClaim(channel, number).hash(name, scratch)
        });
        if is_ephemeral(channel)
            && let Some(count) = self.channels.get_mut(channel)
        {
            *count += 1;
        }
        Ok(())
    }
}

impl RegistrationDb {
    fn index_attachments(&mut self) -> Result<()> {
        let numbers = self.producers.keys().chain(self.attachments.keys());
        if numbers
            .max()
            .is_some_and(|largest| *largest > LARGEST_NUMBER)
        {
            return Err(dangling("a number", "count of its kind"));
        }
        self.producer_numbers = NumberPool::with_taken(self.producers.keys().copied());
        self.attachment_numbers = NumberPool::with_taken(self.attachments.keys().copied());
        for (number, attachment) in &self.attachments {
            let row = &attachment.row;
            let producer = self.producers.get_mut(&row.producer);
            let producer = producer.ok_or_else(|| dangling("an attachment", "producer"))?;
            if row.leaving {
                producer.leaving += 1;
                self.leaving.insert(*number);
                continue;
            }
            producer.attachments.insert(row.member, *number);
            let member = self.members.entry(row.member).or_default();
            member.attachments.insert((row.incarnation, *number));
        }
        Ok(())
    }

    /// Counts claims and channels, and indexes topics by attachment.
    fn index_claims(&mut self) -> Result<()> {
        for (name, topic) in &self.topics {
            self.channel_count += topic.channels.len();
            if !topic.released.is_empty() {
                self.given_up.insert(name.clone());
            }
            for (number, claim) in &topic.claims {
                let attachment = self.attachments.get_mut(number);
                let attachment = attachment.ok_or_else(|| dangling("a claim", "attachment"))?;
                attachment.topics.insert(name.clone());
                self.claim_count += 1 + claim.len();
                if claim.releasing && !attachment.row.leaving {
                    self.releasing.insert((name.clone(), *number));
                }
            }
        }
        Ok(())
    }
}

/// The sum of the hashes of the rows of a topic that [`RegistrationDb::pack`] has encoded.
///
/// # Errors
/// [`Error::Encoding`] if it does not decode.
pub(crate) fn topic_hash(name: &str, packed: &[u8]) -> Result<u128> {
    let packed: PackedTopic = decode("a topic", packed)?;
    packed.hash(name, &mut Vec::new())
}

impl PackedTopic {
    /// The sum of the hashes of its rows; overwrites `scratch`. A fact that is there twice counts
    /// twice, so the sum matches that of no registry.
    fn hash(&self, name: &str, scratch: &mut Vec<u8>) -> Result<u128> {
        let mut sum = TopicFact::Topic.hash(name, scratch);
        let mut add = |fact: TopicFact<'_>| sum = sum.wrapping_add(fact.hash(name, scratch));
        for channel in &self.channels {
            add(TopicFact::Channel(channel));
        }
        for claim in &self.claims {
            add(TopicFact::Claim(claim.number, claim.releasing));
            for place in &claim.channels {
                let channel = channel_at(&self.channels, *place)?;
                add(TopicFact::ChannelClaim(channel, claim.number));
            }
        }
        for (number, at) in &self.tombstones {
            add(TopicFact::Tombstone(*number, *at));
        }
        for (number, channel, at) in &self.released {
            add(TopicFact::Released(*number, channel.as_deref(), *at));
        }
        Ok(sum)
    }
}

fn channel_at<N>(channels: &[N], place: u32) -> Result<&N> {
    let channel = usize::try_from(place)
        .ok()
        .and_then(|place| channels.get(place));
    channel.ok_or_else(|| dangling("a claim", "channel"))
}

fn dangling(what: &str, missing: &str) -> Error {
    Error::Encoding {
        what: "a registry",
        reason: format!("{what} refers to a {missing} that is missing"),
    }
}
