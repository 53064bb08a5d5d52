//! A registry as rows and as packed topics, and back: what disk and snapshots hold.

use std::sync::Arc;

use super::leaving::NOBODY;
use super::{Attachment, Producer, RegistrationDb, Topic, claim_row};
use crate::encoding::{decode, encode};
use crate::error::{Error, Result};
use crate::registration::MemberId;
use crate::rows::{AttachmentRow, ProducerNumber, Row, row_hash};

impl RegistrationDb {
    /// Every fact of the registry, parents before children: loading them in this order, or in
    /// the order of their keys, gives the same registry back.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let topics = self.topics.iter();
        let of_topics = topics.flat_map(|(name, topic)| topic.rows(name));
        self.rows_beside_topics().chain(of_topics)
    }

    /// The facts that belong to no topic.
    pub(crate) fn rows_beside_topics(&self) -> impl Iterator<Item = Row> {
        let members = self
            .members
            .iter()
            .filter(|(_, row)| **row != Default::default())
            .map(|(member, row)| Row::Member(*member, row.clone()));
        let producers = self.producers.iter().flat_map(|(number, producer)| {
            let id = Row::Producer(*number, producer.id.clone());
            let attachments = producer.attachments.iter().map(|(member, attachment)| {
                Row::Attachment(*number, *member, attachment.row.clone())
            });
            std::iter::once(id).chain(attachments)
        });
        members.chain(producers)
    }

    /// All that belongs to a topic; `None` if it is not listed.
    ///
    /// # Errors
    /// [`Error::Encoding`] if it cannot be represented.
    pub(crate) fn pack(&self, topic: &str) -> Result<Option<Vec<u8>>> {
        let topic = self.topics.get(topic);
        topic.map(|topic| encode("a topic", topic)).transpose()
    }

    /// How many rows belong to a topic.
    pub(crate) fn rows_of(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(0, |topic| {
            let channels = topic.channels.values();
            let of_channels: usize = channels.map(|claims| 1 + claims.len()).sum();
            1 + topic.claims.len() + of_channels + topic.tombstones.len()
        })
    }

    /// Builds a registry, with its indexes and its state hash, from stored rows in any order.
    ///
    /// # Errors
    /// What the iterator gives, and [`Error::Encoding`] for a row that does not decode or that
    /// refers to something that is not there.
    pub fn from_rows(rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>>) -> Result<Self> {
        let mut loader = Loader::default();
        for row in rows {
            let (key, value) = row?;
            loader.row(&key, &value)?;
        }
        loader.finish()
    }
}

impl Topic {
    fn rows(&self, name: &str) -> impl Iterator<Item = Row> {
        let channels = self.channels.iter().flat_map(move |(channel, claims)| {
            let claims = claims.iter();
            let claims =
                claims.map(move |(number, member)| claim_row(name, channel, number, member));
            std::iter::once(Row::Channel(name.to_string(), channel.to_string())).chain(claims)
        });
        let claims = self.claims.iter();
        let claims = claims.map(move |(number, member)| claim_row(name, "", number, member));
        let tombstones = self
            .tombstones
            .iter()
            .map(move |(number, at)| Row::Tombstone(name.to_string(), *number, *at));
        std::iter::once(Row::Topic(name.to_string()))
            .chain(claims)
            .chain(channels)
            .chain(tombstones)
    }
}

/// Puts a registry together. What refers to others waits until all are known.
#[derive(Default)]
pub(crate) struct Loader {
    db: RegistrationDb,
    attachments: Vec<(ProducerNumber, MemberId, AttachmentRow)>,
    claims: Vec<(String, String, ProducerNumber, MemberId)>,
    tombstones: Vec<(String, ProducerNumber, u64)>,
}

impl Loader {
    /// Takes a row.
    ///
    /// # Errors
    /// [`Error::Encoding`] if it does not decode.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let db = &mut self.db;
        db.state_hash = db.state_hash.wrapping_add(row_hash(key, value));
        match Row::decode(key, value)? {
            Row::Member(member, row) => {
                db.members.insert(member, row);
            }
            Row::Producer(number, id) => {
                db.numbers.insert(id.clone(), number);
                db.producers.insert(number, Producer::new(id));
            }
            Row::Topic(name) => {
                db.topics.entry(name.into()).or_default();
            }
            Row::Channel(topic, channel) => {
                let topic: Arc<str> = topic.into();
                let channels = &mut db.topics.entry(topic).or_default().channels;
                channels.entry(channel.into()).or_default();
            }
            Row::Attachment(number, member, row) => self.attachments.push((number, member, row)),
            Row::Claim(topic, channel, number, member) => {
                self.claims.push((topic, channel, number, member));
            }
            Row::Tombstone(topic, number, at) => self.tombstones.push((topic, number, at)),
        }
        Ok(())
    }

    /// Takes a topic as [`RegistrationDb::pack`] gave it.
    ///
    /// # Errors
    /// [`Error::Encoding`] if it does not decode.
    pub(crate) fn topic(&mut self, name: String, packed: &[u8]) -> Result<()> {
        let topic: Topic = decode("a topic", packed)?;
        for row in topic.rows(&name) {
            let hash = row_hash(&row.key(), &row.value()?);
            self.db.state_hash = self.db.state_hash.wrapping_add(hash);
        }
        self.db.topics.insert(name.into(), topic);
        Ok(())
    }

    /// The registry.
    ///
    /// # Errors
    /// [`Error::Encoding`] if something refers to what is not there.
    pub(crate) fn finish(self) -> Result<RegistrationDb> {
        let mut db = self.db;
        for (number, member, row) in self.attachments {
            let producer = db
                .producers
                .get_mut(&number)
                .ok_or_else(|| dangling("an attachment", "producer"))?;
            match row.session {
                NOBODY => drop(db.leaving.insert((member, number))),
                session => drop(db.sessions.insert((member, session), number)),
            }
            producer.attachments.insert(member, Attachment::new(row));
        }
        for (topic, channel, number, member) in self.claims {
            let topic = db.topics.get_mut(topic.as_str());
            let topic = topic.ok_or_else(|| dangling("a claim", "topic"))?;
            let claims = match channel.as_str() {
                "" => Some(&mut topic.claims),
                channel => topic.channels.get_mut(channel),
            };
            let claims = claims.ok_or_else(|| dangling("a claim", "channel"))?;
            claims.insert(number, member);
        }
        for (topic, number, at) in self.tombstones {
            let topic = db.topics.get_mut(topic.as_str());
            let topic = topic.ok_or_else(|| dangling("a tombstone", "topic"))?;
            topic.tombstones.insert(number, at);
        }
        db.index_claims()?;
        Ok(db)
    }
}

impl RegistrationDb {
    /// Counts all claims, and has the attachments know their topics.
    fn index_claims(&mut self) -> Result<()> {
        for (name, topic) in &self.topics {
            for (number, member) in topic.claims.iter() {
                let producer = self.producers.get_mut(&number);
                let attachment =
                    producer.and_then(|producer| producer.attachments.get_mut(&member));
                let attachment = attachment.ok_or_else(|| dangling("a claim", "attachment"))?;
                attachment.topics.insert(name.clone());
            }
            self.claim_count += topic.claims.len();
            for claims in topic.channels.values() {
                if !claims
                    .iter()
                    .all(|(number, member)| topic.claims.contains(number, member))
                {
                    return Err(dangling("a claim of a channel", "claim of its topic"));
                }
                self.claim_count += claims.len();
            }
        }
        Ok(())
    }
}

fn dangling(what: &str, missing: &str) -> Error {
    Error::Encoding {
        what: "a registry",
        reason: format!("{what} refers to a {missing} that is not there"),
    }
}
