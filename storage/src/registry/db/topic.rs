//! One topic: its channels, who claims it and them, tombstones.
//!
//! A claim of the topic holds the channels that the same attachment claims, so that all of them
//! go with it at once, however many there are. Only `#ephemeral` channels have to be looked at one
//! by one: they are removed with their last claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::Names;
use super::row_log::RowLog;
use crate::registry::rows::{AttachmentNumber, ProducerNumber, TopicFact};
use crate::registry::values::{UnixMillis, is_ephemeral};

#[derive(Debug, Default)]
pub(super) struct Topic {
    /// With the number of claims on those that are ephemeral; those on others are not counted.
    pub(super) channels: BTreeMap<Arc<str>, u32>,
    pub(super) claims: BTreeMap<AttachmentNumber, TopicClaim>,
    pub(super) tombstones: BTreeMap<ProducerNumber, UnixMillis>,
    /// When producers gave up the topic or a channel at a present member, where other attachments
    /// of the producer still claim it.
    pub(super) released: BTreeMap<Released, UnixMillis>,
    /// The sum of the hashes of all its rows.
    pub(super) hash: u128,
}

/// Who gave up what: the topic, or a channel of it.
pub(super) type Released = (ProducerNumber, Option<Arc<str>>);

/// One attachment's claim of a topic.
#[derive(Debug, Default)]
pub(super) struct TopicClaim {
    pub(super) lasting: Names,
    pub(super) ephemeral: Option<Box<Names>>,
    /// It no longer counts, and is removed step by step.
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

    /// Claims of channels.
    pub(super) fn len(&self) -> usize {
        self.lasting.len() + self.ephemeral().map_or(0, Names::len)
    }

    pub(super) fn ephemeral(&self) -> Option<&Names> {
        self.ephemeral.as_deref()
    }

    /// The channels claimed, ephemeral ones last.
    pub(super) fn channels(&self) -> impl Iterator<Item = &Arc<str>> {
        let ephemeral = self.ephemeral().into_iter();
        self.lasting.iter().chain(ephemeral.flat_map(Names::iter))
    }

    /// The channels claimed that come behind this one, in order; at most this many.
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
    pub(super) fn create(name: &Arc<str>, log: &mut RowLog) -> Topic {
        let mut topic = Topic::default();
        topic.add(name, TopicFact::Topic, log);
        log.topic(name, true);
        topic
    }

    /// Rows on disk and in snapshots.
    pub(super) fn rows(&self) -> usize {
        let claims = self.claims.values().map(|claim| 1 + claim.len());
        let marks = self.tombstones.len() + self.released.len();
        1 + self.channels.len() + claims.sum::<usize>() + marks
    }

    /// Whether an attachment's claim of the topic, or of a channel of it, counts.
    pub(super) fn is_claimed_by(&self, number: AttachmentNumber, channel: Option<&str>) -> bool {
        self.claims.get(&number).is_some_and(|claim| {
            !claim.releasing && channel.is_none_or(|channel| claim.has(channel))
        })
    }

    pub(super) fn create_channel(
        &mut self,
        name: &Arc<str>,
        channel: &str,
        log: &mut RowLog,
    ) -> Arc<str> {
        if let Some((shared, _)) = self.channels.get_key_value(channel) {
            return shared.clone();
        }
        let shared: Arc<str> = channel.into();
        self.add(name, TopicFact::Channel(channel), log);
        self.channels.insert(shared.clone(), 0);
        log.channels += 1;
        log.topic(name, false);
        shared
    }

    /// Whether the claim of the topic is new.
    pub(super) fn claim(
        &mut self,
        name: &Arc<str>,
        number: AttachmentNumber,
        log: &mut RowLog,
    ) -> bool {
        if self.claims.contains_key(&number) {
            return false;
        }
        self.add(name, TopicFact::Claim(number, false), log);
        self.claims.insert(number, TopicClaim::default());
        log.claims += 1;
        log.topic(name, false);
        true
    }

    /// The topic is claimed by the attachment already.
    pub(super) fn claim_channel(
        &mut self,
        name: &Arc<str>,
        number: AttachmentNumber,
        channel: &str,
        log: &mut RowLog,
    ) {
        let shared = self.create_channel(name, channel, log);
        let Some(claim) = self.claims.get_mut(&number) else {
            debug_assert!(false, "{channel} is claimed without its topic {name}");
            return;
        };
        if claim.has(channel) {
            return;
        }
        claim.names_mut(channel).insert(shared, |channel| {
            log.hash_of(name, TopicFact::ChannelClaim(channel, number))
        });
        self.add(name, TopicFact::ChannelClaim(channel, number), log);
        if let Some(count) = self.channels.get_mut(channel)
            && is_ephemeral(channel)
        {
            *count += 1;
        }
        log.claims += 1;
        log.topic(name, false);
    }

    /// An ephemeral channel without claims goes, also if this attachment never claimed it.
    pub(super) fn release_channel(
        &mut self,
        name: &Arc<str>,
        number: AttachmentNumber,
        channel: &str,
        log: &mut RowLog,
    ) {
        let mut released = false;
        if let Some(claim) = self.claims.get_mut(&number)
            && claim.has(channel)
        {
            released = claim.names_mut(channel).remove(channel, |channel| {
                log.hash_of(name, TopicFact::ChannelClaim(channel, number))
            });
        }
        if released {
            self.subtract(name, TopicFact::ChannelClaim(channel, number), log);
            log.claims -= 1;
            log.topic(name, false);
        }
        if is_ephemeral(channel) {
            self.release_ephemeral(name, channel, u32::from(released), log);
        }
    }

    /// The attachment's claim goes with all claims of channels; `false` if only some of it could
    /// go in this step, and the rest no longer counts.
    pub(super) fn release(
        &mut self,
        name: &Arc<str>,
        number: AttachmentNumber,
        log: &mut RowLog,
    ) -> bool {
        while let Some(channel) = self.first_ephemeral(number) {
            if !log.has_room() {
                self.mark_releasing(name, number, log);
                return false;
            }
            self.release_channel(name, number, &channel, log);
        }
        let Some(claim) = self.claims.remove(&number) else {
            return true;
        };
        let channels = claim
            .lasting
            .sum(|channel| log.fact(name, TopicFact::ChannelClaim(channel, number)));
        self.hash = self.hash.wrapping_sub(channels);
        log.state_hash = log.state_hash.wrapping_sub(channels);
        self.subtract(name, TopicFact::Claim(number, claim.releasing), log);
        log.claims -= 1 + isize::try_from(claim.lasting.len()).unwrap_or(isize::MAX);
        log.topic(name, false);
        log.discard_claim(claim);
        true
    }

    /// The channel goes with all claims of it.
    pub(super) fn delete_channel(&mut self, name: &Arc<str>, channel: &str, log: &mut RowLog) {
        let holders: Vec<AttachmentNumber> = self
            .claims
            .iter()
            .filter(|(_, claim)| claim.has(channel))
            .map(|(number, _)| *number)
            .collect();
        for number in holders {
            if let Some(claim) = self.claims.get_mut(&number) {
                claim.names_mut(channel).remove(channel, |channel| {
                    log.hash_of(name, TopicFact::ChannelClaim(channel, number))
                });
            }
            self.subtract(name, TopicFact::ChannelClaim(channel, number), log);
            log.claims -= 1;
        }
        self.remove_channel(name, channel, log);
    }

    pub(super) fn set_tombstone(
        &mut self,
        name: &Arc<str>,
        number: ProducerNumber,
        at: Option<UnixMillis>,
        log: &mut RowLog,
    ) {
        let old = match at {
            Some(at) => self.tombstones.insert(number, at),
            None => self.tombstones.remove(&number),
        };
        if let Some(old) = old {
            self.subtract(name, TopicFact::Tombstone(number, old), log);
        }
        if let Some(at) = at {
            self.add(name, TopicFact::Tombstone(number, at), log);
        }
        if old != at {
            log.topic(name, false);
        }
    }

    /// Remembers, or forgets, that a producer gave up a name.
    pub(super) fn set_released(
        &mut self,
        name: &Arc<str>,
        released: &Released,
        at: Option<UnixMillis>,
        log: &mut RowLog,
    ) {
        let (number, channel) = (released.0, released.1.as_deref());
        let old = match at {
            Some(at) => self.released.insert(released.clone(), at),
            None => self.released.remove(released),
        };
        if let Some(old) = old {
            self.subtract(name, TopicFact::Released(number, channel, old), log);
        }
        if let Some(at) = at {
            self.add(name, TopicFact::Released(number, channel, at), log);
        }
        if old != at {
            log.topic(name, false);
        }
    }

    /// What a producer gave up here.
    pub(super) fn released_by(&self, number: ProducerNumber) -> Vec<Released> {
        let of_producer = self.released.range((number, None)..);
        let of_producer = of_producer.take_while(|((of, _), _)| *of == number);
        of_producer.map(|(released, _)| released.clone()).collect()
    }

    fn mark_releasing(&mut self, name: &Arc<str>, number: AttachmentNumber, log: &mut RowLog) {
        let Some(claim) = self.claims.get_mut(&number) else {
            return;
        };
        if !std::mem::replace(&mut claim.releasing, true) {
            self.subtract(name, TopicFact::Claim(number, false), log);
            self.add(name, TopicFact::Claim(number, true), log);
            log.topic(name, false);
        }
    }

    fn first_ephemeral(&self, number: AttachmentNumber) -> Option<Arc<str>> {
        let claim = self.claims.get(&number)?;
        claim.ephemeral()?.first().cloned()
    }

    fn release_ephemeral(
        &mut self,
        name: &Arc<str>,
        channel: &str,
        released: u32,
        log: &mut RowLog,
    ) {
        let Some(count) = self.channels.get_mut(channel) else {
            return;
        };
        debug_assert!(
            *count >= released,
            "claims of {name}/{channel} are miscounted"
        );
        *count = count.saturating_sub(released);
        if *count == 0 {
            self.remove_channel(name, channel, log);
        }
    }

    fn remove_channel(&mut self, name: &Arc<str>, channel: &str, log: &mut RowLog) {
        if self.channels.remove(channel).is_some() {
            self.subtract(name, TopicFact::Channel(channel), log);
            log.channels -= 1;
            log.topic(name, false);
        }
    }

    fn add(&mut self, name: &str, fact: TopicFact<'_>, log: &mut RowLog) {
        let hash = log.fact(name, fact);
        self.hash = self.hash.wrapping_add(hash);
        log.state_hash = log.state_hash.wrapping_add(hash);
    }

    fn subtract(&mut self, name: &str, fact: TopicFact<'_>, log: &mut RowLog) {
        let hash = log.fact(name, fact);
        self.hash = self.hash.wrapping_sub(hash);
        log.state_hash = log.state_hash.wrapping_sub(hash);
    }
}
