//! Applies REGISTER and UNREGISTER of topics and channels.

use std::sync::Arc;

use super::invariant::{present, present_mut};
use super::row_log::RowLog;
use super::{Note, Origin, Outcome, RegistrationDb, Source};
use crate::error::Result;
use crate::registry::event::Refusal;
use crate::registry::rows::{AttachmentNumber, ProducerNumber};
use crate::registry::values::{MemberId, ProducerId, is_ephemeral};

impl RegistrationDb {
    /// REGISTER.
    pub(super) fn claim(
        &mut self,
        number: AttachmentNumber,
        topic: &str,
        channel: Option<&str>,
        log: &mut RowLog,
    ) -> Result<Outcome> {
        let name = self.create_topic(topic, log);
        let attachment = present(&self.attachments, &number, "attachment")?;
        let producer = attachment.row.producer;
        let claimed_before =
            attachment.topics.contains(&name) || self.is_name_claimed(&name, producer, None);
        let topic = present_mut(&mut self.topics, &name, "topic")?;
        let claim = topic.claims.get(&number);
        if claim.is_some_and(|claim| claim.releasing) {
            return Ok(Err(Refusal::Releasing));
        }
        if !topic.released.is_empty() {
            topic.claimed_again(&name, producer, channel, log);
            if topic.released.is_empty() {
                self.given_up.remove(&name);
            }
        }
        if topic.claim(&name, number, log) {
            let attachment = present_mut(&mut self.attachments, &number, "attachment")?;
            attachment.topics.insert(name.clone());
            if !claimed_before {
                // Claims that are still being removed do not keep a tombstone.
                topic.set_tombstone(&name, producer, None, log);
            }
        }
        if let Some(channel) = channel {
            topic.claim_channel(&name, number, channel, log)?;
        }
        Ok(Ok(()))
    }

    /// UNREGISTER: releases the member's own claim of the name, and those of absent attachments.
    pub(super) fn release(
        &mut self,
        source: Source,
        origin: Origin,
        producer: &ProducerId,
        (topic, channel): (&str, Option<&str>),
        log: &mut RowLog,
    ) -> Result<()> {
        if let Some(number) = self.attachment_of(origin.member, producer) {
            self.release_claim(number, topic, channel, log)?;
        }
        for (member, number) in self.held_by_absent(producer, topic, channel) {
            self.release_claim(number, topic, channel, log)?;
            source.note(member, log, || Note::Taken {
                producer: producer.clone(),
                name: Some((topic.into(), channel.map(Into::into))),
            });
        }
        self.remember_release(origin.at, producer, topic, channel, log)?;
        // As upstream, also if the caller never held it.
        let Some((name, found)) = self.topics.get_key_value(topic) else {
            return Ok(());
        };
        let name = name.clone();
        match channel {
            None if is_ephemeral(topic) && found.claims.is_empty() => {
                self.remove_topic(&name, log)?;
            }
            Some(channel) if is_ephemeral(channel) && found.channels.get(channel) == Some(&0) => {
                let topic = present_mut(&mut self.topics, &name, "topic")?;
                topic.delete_channel(&name, channel, log)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The claims of a name that a release at a present member also removes: those of absent
    /// attachments, unless a present one holds the name as well.
    pub(super) fn held_by_absent(
        &self,
        producer: &ProducerId,
        topic: &str,
        channel: Option<&str>,
    ) -> Vec<(MemberId, AttachmentNumber)> {
        let Some(topic) = self.topics.get(topic) else {
            return Vec::new();
        };
        let mut held = Vec::new();
        for (member, number) in self.attachments_of(producer) {
            if topic.is_claimed_by(number, channel) {
                if self.is_present(number) {
                    return Vec::new();
                }
                held.push((member, number));
            }
        }
        held
    }

    /// Removes an attachment's claim of a name, if it has one, or starts to.
    pub(super) fn release_claim(
        &mut self,
        number: AttachmentNumber,
        topic: &str,
        channel: Option<&str>,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some((name, found)) = self.topics.get_key_value(topic) else {
            return Ok(());
        };
        if !found.claims.contains_key(&number) {
            return Ok(());
        }
        let name = name.clone();
        let Some(channel) = channel else {
            return self.release_topic(number, &name, log);
        };
        if found.is_claimed_by(number, Some(channel)) {
            let topic = present_mut(&mut self.topics, &name, "topic")?;
            topic.release_channel(&name, number, channel, log)?;
            self.forget_release(&name, number, channel, log)?;
        }
        Ok(())
    }

    /// Removes an attachment's claim of a topic, or starts to.
    pub(super) fn release_topic(
        &mut self,
        number: AttachmentNumber,
        name: &Arc<str>,
        log: &mut RowLog,
    ) -> Result<()> {
        let topic = present_mut(&mut self.topics, name, "topic")?;
        let done = topic.release(name, number, log)?;
        let empty = topic.claims.is_empty();
        let attachment = present_mut(&mut self.attachments, &number, "attachment")?;
        let (producer, leaving) = (attachment.row.producer, attachment.row.leaving);
        if done {
            attachment.topics.remove(name);
            self.releasing.remove(&(name.clone(), number));
        } else if !leaving {
            self.releasing.insert((name.clone(), number));
        }
        if !self.is_name_claimed(name, producer, None) {
            let topic = present_mut(&mut self.topics, name, "topic")?;
            topic.set_tombstone(name, producer, None, log);
        }
        self.forget_releases(name, producer, log)?;
        if empty && is_ephemeral(name) {
            self.remove_topic(name, log)?;
        }
        Ok(())
    }

    /// Whether a live attachment of the producer claims a topic, or a channel of it.
    pub(super) fn is_name_claimed(
        &self,
        topic: &str,
        number: ProducerNumber,
        channel: Option<&str>,
    ) -> bool {
        let topic = self.topics.get(topic);
        let producer = self.producers.get(&number);
        topic.zip(producer).is_some_and(|(topic, producer)| {
            let mut attachments = producer.attachments.values();
            attachments.any(|number| topic.is_claimed_by(*number, channel))
        })
    }
}
