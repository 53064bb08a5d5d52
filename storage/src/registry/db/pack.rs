//! Turns a registry into rows and into packed topics, for disk and snapshots.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RegistrationDb;
use super::topic::Topic;
use crate::encoding::encode;
use crate::error::Result;
use crate::registry::rows::{AttachmentNumber, MemberRow, ProducerNumber, Row};
use crate::registry::values::UnixMillis;

/// A topic as one value. Claims refer to channels by position.
#[derive(Serialize, Deserialize)]
pub(super) struct PackedTopic {
    pub(super) channels: Vec<String>,
    pub(super) claims: Vec<PackedClaim>,
    pub(super) tombstones: Vec<(ProducerNumber, UnixMillis)>,
    pub(super) released: Vec<(ProducerNumber, Option<String>, UnixMillis)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct PackedClaim {
    pub(super) number: AttachmentNumber,
    pub(super) releasing: bool,
    pub(super) channels: Vec<u32>,
}

impl RegistrationDb {
    /// Every fact of the registry, parents before children. Loading them in this order, or in the
    /// order of their keys, rebuilds the same registry.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let topics = self.topics.iter();
        let of_topics = topics.flat_map(|(name, topic)| topic.facts(name));
        self.rows_beside_topics().chain(of_topics)
    }

    /// The facts that belong to no topic.
    pub(crate) fn rows_beside_topics(&self) -> impl Iterator<Item = Row> {
        let members = self.members.iter().flat_map(|(id, member)| {
            let known = (member.row != MemberRow::default()).then(|| member.row.clone());
            let row = known.map(|row| Row::Member(*id, row));
            let starts = member.starts.iter();
            let starts = starts.map(|(incarnation, start)| Row::Start(*id, *incarnation, *start));
            row.into_iter().chain(starts)
        });
        let producers = self.producers.iter();
        let producers = producers.map(|(number, known)| Row::Producer(*number, known.row.clone()));
        let attachments = self.attachments.iter();
        let attachments = attachments
            .map(|(number, attachment)| Row::Attachment(*number, attachment.row.clone()));
        members
            .chain(producers)
            .chain(attachments)
            .chain(self.deleted.rows())
    }

    /// A topic and everything that belongs to it; `None` if it is not listed.
    ///
    /// # Errors
    /// [`Error::Encoding`] if it cannot be represented.
    pub(crate) fn pack(&self, topic: &str) -> Result<Option<Vec<u8>>> {
        let topic = self.topics.get(topic);
        topic
            .map(|topic| encode("a topic", &topic.packed()))
            .transpose()
    }

    /// How many rows belong to a topic.
    pub(crate) fn rows_of(&self, topic: &str) -> usize {
        self.topics.get(topic).map_or(0, Topic::rows)
    }
}

impl Topic {
    pub(super) fn facts(&self, name: &str) -> impl Iterator<Item = Row> {
        let topic = name.to_string();
        let channels = self.channels.keys();
        let channels =
            channels.map(move |channel| Row::Channel(topic.clone(), channel.to_string()));
        let topic = name.to_string();
        let claims = self.claims.iter().flat_map(move |(number, claim)| {
            let own = Row::TopicClaim(topic.clone(), *number, claim.releasing);
            let (topic, number) = (topic.clone(), *number);
            let channels = claim.channels();
            let channels = channels
                .map(move |channel| Row::ChannelClaim(topic.clone(), channel.to_string(), number));
            std::iter::once(own).chain(channels)
        });
        let topic = name.to_string();
        let tombstones = self.tombstones.iter();
        let tombstones =
            tombstones.map(move |(number, at)| Row::Tombstone(topic.clone(), *number, *at));
        let topic = name.to_string();
        let released = self.released.iter().map(move |((number, channel), at)| {
            let topic = topic.clone();
            match channel {
                None => Row::TopicReleased(topic, *number, *at),
                Some(channel) => Row::ChannelReleased(topic, channel.to_string(), *number, *at),
            }
        });
        std::iter::once(Row::Topic(name.to_string()))
            .chain(channels)
            .chain(claims)
            .chain(tombstones)
            .chain(released)
    }

    fn packed(&self) -> PackedTopic {
        let places: BTreeMap<&str, u32> =
            self.channels.keys().map(|name| &**name).zip(0..).collect();
        let claims = self.claims.iter().map(|(number, claim)| {
            let channels = claim.channels();
            PackedClaim {
                number: *number,
                releasing: claim.releasing,
                channels: channels
                    .filter_map(|channel| places.get(&**channel).copied())
                    .collect(),
            }
        });
        let released = self.released.iter().map(|((number, channel), at)| {
            (*number, channel.as_ref().map(ToString::to_string), *at)
        });
        PackedTopic {
            released: released.collect(),
            channels: self.channels.keys().map(|name| name.to_string()).collect(),
            claims: claims.collect(),
            tombstones: self
                .tombstones
                .iter()
                .map(|(number, at)| (*number, *at))
                .collect(),
        }
    }
}
