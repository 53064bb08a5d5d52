//! Holds one topic: its channels, claims, tombstones and remembered releases.
//!
//! A claim of the topic holds the channels that the same attachment claims, so that they are
//! removed with it at once, however many there are. Only `#ephemeral` channels are visited one by
//! one: they are removed with their last claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::Names;
use crate::registry::rows::{AttachmentNumber, ProducerNumber};
use crate::registry::values::{UnixMillis, is_ephemeral};

#[derive(Debug, Default)]
pub(super) struct Topic {
    /// The channels, each with its number of claims if it is ephemeral, else 0: others are not
    /// counted.
    pub(super) channels: BTreeMap<Arc<str>, u32>,
    pub(super) claims: BTreeMap<AttachmentNumber, TopicClaim>,
    pub(super) tombstones: BTreeMap<ProducerNumber, UnixMillis>,
    /// When producers released the topic or a channel at a present member, while other attachments
    /// of the producer still claim it.
    pub(super) released: BTreeMap<Released, UnixMillis>,
    /// The sum of the hashes of all its rows.
    pub(super) hash: u128,
}

/// A producer, and the name that it released: the topic, or a channel of it.
pub(super) type Released = (ProducerNumber, Option<Arc<str>>);

/// One attachment's claim of a topic.
#[derive(Debug, Default)]
pub(super) struct TopicClaim {
    pub(super) lasting: Names,
    pub(super) ephemeral: Option<Box<Names>>,
    /// It is ignored by queries, and being removed step by step.
    pub(super) releasing: bool,
}

impl TopicClaim {
    pub(super) fn has(&self, channel: &str) -> bool {
        match is_ephemeral(channel) {
            false => self.lasting.contains(channel),
            true => self
                .ephemeral()
                .is_some_and(|names| names.contains(channel)),
        }
    }

    /// The number of channels claimed.
    pub(super) fn len(&self) -> usize {
        self.lasting.len() + self.ephemeral().map_or(0, Names::len)
    }

    pub(super) fn ephemeral(&self) -> Option<&Names> {
        self.ephemeral.as_deref()
    }

    /// The channels claimed; ephemeral ones last.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Arc<str>> {
        let ephemeral = self.ephemeral().into_iter();
        self.lasting.iter().chain(ephemeral.flat_map(Names::iter))
    }

    /// At most `most` of the channels claimed after this one, in order.
    pub(super) fn channels_after(&self, channel: Option<&str>, most: usize) -> Vec<Arc<str>> {
        let lasting = self.lasting.after(channel).take(most);
        let ephemeral = self.ephemeral().into_iter();
        let ephemeral = ephemeral.flat_map(|names| names.after(channel).take(most));
        let mut channels: Vec<Arc<str>> = lasting.chain(ephemeral).cloned().collect();
        channels.sort_unstable();
        channels.truncate(most);
        channels
    }

    pub(super) fn is_large(&self) -> bool {
        self.lasting.is_large() || self.ephemeral().is_some_and(Names::is_large)
    }

    pub(super) fn names_mut(&mut self, channel: &str) -> &mut Names {
        match is_ephemeral(channel) {
            false => &mut self.lasting,
            true => self.ephemeral.get_or_insert_default(),
        }
    }
}

impl Topic {
    /// The number of its rows.
    pub(super) fn rows(&self) -> usize {
        let claims = self.claims.values().map(|claim| 1 + claim.len());
        let marks = self.tombstones.len() + self.released.len();
        1 + self.channels.len() + claims.sum::<usize>() + marks
    }

    /// Whether an attachment claims the topic, or a channel of it, and is not releasing it.
    pub(super) fn is_claimed_by(&self, number: AttachmentNumber, channel: Option<&str>) -> bool {
        self.claims.get(&number).is_some_and(|claim| {
            !claim.releasing && channel.is_none_or(|channel| claim.has(channel))
        })
    }

    /// The names that a producer released.
    pub(super) fn released_by(&self, number: ProducerNumber) -> Vec<Released> {
        let of_producer = self.released.range((number, None)..);
        let of_producer = of_producer.take_while(|((of, _), _)| *of == number);
        of_producer.map(|(released, _)| released.clone()).collect()
    }
}
