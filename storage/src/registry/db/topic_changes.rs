//! Changes one topic, and with it the state hash and the counts.

use std::sync::Arc;

use super::invariant::present_mut;
use super::row_log::RowLog;
use super::topic::{Released, Topic, TopicClaim};
use crate::error::{Error, Result};
use crate::registry::rows::{AttachmentNumber, ProducerNumber, TopicFact};
use crate::registry::values::{UnixMillis, is_ephemeral};

impl Topic {
    pub(super) fn create(name: &Arc<str>, log: &mut RowLog) -> Topic {
        let mut topic = Topic::default();
        topic.add(name, TopicFact::Topic, log);
        log.topic(name, true);
        topic
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

    /// Claims the topic. Returns whether the claim is new.
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

    /// Claims a channel of the topic, which the attachment claims already.
    pub(super) fn claim_channel(
        &mut self,
        name: &Arc<str>,
        number: AttachmentNumber,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<()> {
        let shared = self.create_channel(name, channel, log);
        let claim = present_mut(&mut self.claims, &number, "claim of a topic by attachment")?;
        if claim.has(channel) {
            return Ok(());
        }
        claim.names_mut(channel).insert(shared, |channel| {
            log.hash_of(name, TopicFact::ChannelClaim(channel, number))
        });
        self.add(name, TopicFact::ChannelClaim(channel, number), log);
        if is_ephemeral(channel) {
            *present_mut(&mut self.channels, channel, "channel")? += 1;
        }
        log.claims += 1;
        log.topic(name, false);
        Ok(())
    }

    /// Releases a channel. An ephemeral one without claims is removed, also if this attachment
    /// never claimed it.
    pub(super) fn release_channel(
        &mut self,
        name: &Arc<str>,
        number: AttachmentNumber,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<()> {
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
            self.release_ephemeral(name, channel, u32::from(released), log)?;
        }
        Ok(())
    }

    /// Removes the attachment's claim with all its channels. Returns `false` if only part of it
    /// could be removed in this step; queries ignore the rest.
    pub(super) fn release(
        &mut self,
        name: &Arc<str>,
        number: AttachmentNumber,
        log: &mut RowLog,
    ) -> Result<bool> {
        while let Some(channel) = self.first_ephemeral(number) {
            if !log.has_room() {
                self.mark_releasing(name, number, log)?;
                return Ok(false);
            }
            self.release_channel(name, number, &channel, log)?;
        }
        let Some(claim) = self.claims.remove(&number) else {
            let what =
                format!("attachment {number} releases topic {name}, which it does not claim");
            return Err(Error::invariant(what));
        };
        debug_assert!(
            claim.ephemeral().is_none_or(|names| names.len() == 0),
            "a claim is removed before its ephemeral channels"
        );
        let channels = claim
            .lasting
            .sum(|channel| log.fact(name, TopicFact::ChannelClaim(channel, number)));
        self.hash = self.hash.wrapping_sub(channels);
        log.state_hash = log.state_hash.wrapping_sub(channels);
        self.subtract(name, TopicFact::Claim(number, claim.releasing), log);
        log.claims -= 1 + isize::try_from(claim.lasting.len()).unwrap_or(isize::MAX);
        log.topic(name, false);
        log.discard_claim(claim);
        Ok(true)
    }

    /// Removes the channel with all claims of it.
    pub(super) fn delete_channel(
        &mut self,
        name: &Arc<str>,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<()> {
        let holders: Vec<AttachmentNumber> = self
            .claims
            .iter()
            .filter(|(_, claim)| claim.has(channel))
            .map(|(number, _)| *number)
            .collect();
        for number in holders {
            let claim = present_mut(&mut self.claims, &number, "claim of a topic by attachment")?;
            let removed = claim.names_mut(channel).remove(channel, |channel| {
                log.hash_of(name, TopicFact::ChannelClaim(channel, number))
            });
            debug_assert!(
                removed,
                "attachment {number} has no claim of {name}/{channel}"
            );
            self.subtract(name, TopicFact::ChannelClaim(channel, number), log);
            log.claims -= 1;
        }
        self.remove_channel(name, channel, log);
        Ok(())
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

    /// Remembers, or forgets, that a producer released a name.
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

    fn mark_releasing(
        &mut self,
        name: &Arc<str>,
        number: AttachmentNumber,
        log: &mut RowLog,
    ) -> Result<()> {
        let claim = present_mut(&mut self.claims, &number, "claim of a topic by attachment")?;
        if !std::mem::replace(&mut claim.releasing, true) {
            self.subtract(name, TopicFact::Claim(number, false), log);
            self.add(name, TopicFact::Claim(number, true), log);
            log.topic(name, false);
        }
        Ok(())
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
    ) -> Result<()> {
        let Some(count) = self.channels.get_mut(channel) else {
            return Ok(());
        };
        *count = count.checked_sub(released).ok_or_else(|| {
            Error::invariant(format!(
                "more claims of {name}/{channel} are released than there were"
            ))
        })?;
        if *count == 0 {
            self.remove_channel(name, channel, log);
        }
        Ok(())
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
