//! A registry as rows, and rows as a registry: what disk and snapshots hold.

use std::sync::Arc;

use super::leaving::NOBODY;
use super::{Attachment, Producer, RegistrationDb, claim_row};
use crate::error::{Error, Result};
use crate::rows::{Row, row_hash};

impl RegistrationDb {
    /// Every fact of the registry, parents before children: loading them in this order, or in
    /// the order of their keys, gives the same registry back.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
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
        let topics = self.topics.iter().flat_map(|(name, topic)| {
            let channels = topic.channels.iter().flat_map(move |(channel, claims)| {
                std::iter::once(Row::Channel(name.to_string(), channel.to_string())).chain(
                    claims
                        .iter()
                        .map(move |(number, member)| claim_row(name, channel, number, member)),
                )
            });
            let claims = topic
                .claims
                .iter()
                .map(move |(number, member)| claim_row(name, "", number, member));
            let tombstones = topic
                .tombstones
                .iter()
                .map(move |(number, at)| Row::Tombstone(name.to_string(), *number, *at));
            std::iter::once(Row::Topic(name.to_string()))
                .chain(claims)
                .chain(channels)
                .chain(tombstones)
        });
        members.chain(producers).chain(topics)
    }

    /// Builds a registry, with its indexes and its state hash, from stored rows in any order.
    ///
    /// # Errors
    /// What the iterator gives, and [`Error::Encoding`] for a row that does not decode or that
    /// refers to something that is not there.
    pub fn from_rows(rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>>) -> Result<Self> {
        let mut db = RegistrationDb::new();
        // Keys come sorted from disk, where claims ('r') follow attachments ('a') but producers
        // ('p') do not come first: those that refer to others wait until all are known.
        let mut attachments = Vec::new();
        let mut claims = Vec::new();
        let mut tombstones = Vec::new();
        for row in rows {
            let (key, value) = row?;
            db.state_hash = db.state_hash.wrapping_add(row_hash(&key, &value));
            match Row::decode(&key, &value)? {
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
                Row::Attachment(number, member, row) => attachments.push((number, member, row)),
                Row::Claim(topic, channel, number, member) => {
                    claims.push((topic, channel, number, member));
                }
                Row::Tombstone(topic, number, at) => tombstones.push((topic, number, at)),
            }
        }
        for (number, member, row) in attachments {
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
        for (topic, channel, number, member) in claims {
            db.load_claim(&topic, &channel, number, member)?;
        }
        for (topic, number, at) in tombstones {
            let topic = db.topics.get_mut(topic.as_str());
            let topic = topic.ok_or_else(|| dangling("a tombstone", "topic"))?;
            topic.tombstones.insert(number, at);
        }
        Ok(db)
    }

    fn load_claim(&mut self, topic: &str, channel: &str, number: u32, member: u64) -> Result<()> {
        let Some((shared, _)) = self.topics.get_key_value(topic) else {
            return Err(dangling("a claim", "topic"));
        };
        let shared = shared.clone();
        let attachment = self
            .attachment_mut(number, member)
            .ok_or_else(|| dangling("a claim", "attachment"))?;
        if channel.is_empty() {
            attachment.topics.insert(shared.clone());
        }
        let topic = self.topics.entry(shared).or_default();
        let claims = if channel.is_empty() {
            &mut topic.claims
        } else {
            let channel = topic.channels.get_mut(channel);
            channel.ok_or_else(|| dangling("a claim", "channel"))?
        };
        if claims.insert(number, member) {
            self.claim_count += 1;
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
