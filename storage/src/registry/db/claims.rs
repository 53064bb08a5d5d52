//! Claims: REGISTER and UNREGISTER of topics and channels.

use std::sync::Arc;

use super::row_log::RowLog;
use super::{Note, RegistrationDb, Source};
use crate::error::Result;
use crate::registry::event::Refusal;
use crate::registry::rows::{AttachmentNumber, ProducerNumber};
use crate::registry::values::{MemberId, ProducerId, is_ephemeral};

impl RegistrationDb {
    pub(super) fn claim(
        &mut self,
        number: AttachmentNumber,
        topic: &str,
        channel: Option<&str>,
        log: &mut RowLog,
    ) -> std::result::Result<(), Refusal> {
        let name = self.create_topic(topic, log);
        let claimed_before = self.attachments.get(&number).is_some_and(|attachment| {
            let producer = attachment.row.producer;
            attachment.topics.contains(&name) || self.is_claimed(&name, producer)
        });
        let Some(topic) = self.topics.get_mut(&name) else {
            debug_assert!(false, "{name} has just been created");
            return Ok(());
        };
        if topic
            .claims
            .get(&number)
            .is_some_and(|claim| claim.releasing)
        {
            return Err(Refusal::Releasing);
        }
        if let Some(attachment) = self.attachments.get(&number)
            && !topic.released.is_empty()
        {
            topic.claimed_again(&name, attachment.row.producer, channel, log);
            if topic.released.is_empty() {
                self.given_up.remove(&name);
            }
        }
        if topic.claim(&name, number, log)
            && let Some(attachment) = self.attachments.get_mut(&number)
        {
            attachment.topics.insert(name.clone());
            if !claimed_before {
                // Claims that are still being removed do not keep a tombstone.
                topic.set_tombstone(&name, attachment.row.producer, None, log);
            }
        }
        if let Some(channel) = channel {
            topic.claim_channel(&name, number, channel, log);
        }
        Ok(())
    }

    /// UNREGISTER: of what this member records, and of what only attachments that are not present
    /// hold.
    pub(super) fn release(
        &mut self,
        source: Source,
        producer: &ProducerId,
        topic: &str,
        channel: Option<&str>,
        log: &mut RowLog,
    ) -> Result<()> {
        if let Some(number) = self.attachment_of(source.member, producer) {
            self.release_claim(number, topic, channel, log)?;
        }
        for (member, number) in self.held_without_presence(producer, topic, channel) {
            self.release_claim(number, topic, channel, log)?;
            source.note(member, log, || Note::Taken {
                producer: producer.clone(),
                name: Some((topic.into(), channel.map(Into::into))),
            });
        }
        self.remember_release(source, producer, topic, channel, log);
        // As upstream: also if the caller never held it.
        let Some((name, found)) = self.topics.get_key_value(topic) else {
            return Ok(());
        };
        let name = name.clone();
        match channel {
            None if is_ephemeral(topic) && found.claims.is_empty() => {
                self.remove_topic(&name, log);
            }
            Some(channel) if is_ephemeral(channel) && found.channels.get(channel) == Some(&0) => {
                if let Some(topic) = self.topics.get_mut(&name) {
                    topic.delete_channel(&name, channel, log);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The claims of a name that a release at a present member takes along: those of attachments
    /// that are not present, unless a present one holds it, too.
    pub(super) fn held_without_presence(
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

    pub(super) fn release_claim(
        &mut self,
        number: AttachmentNumber,
        topic: &str,
        channel: Option<&str>,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some((name, _)) = self.topics.get_key_value(topic) else {
            return Ok(());
        };
        let name = name.clone();
        match channel {
            Some(channel) => {
                if let Some(topic) = self.topics.get_mut(&name)
                    && topic.is_claimed_by(number, Some(channel))
                {
                    topic.release_channel(&name, number, channel, log);
                    self.forget_release(&name, number, channel, log);
                }
            }
            None => self.release_topic(number, &name, log),
        }
        Ok(())
    }

    /// Removes an attachment's claim of a topic, or begins to.
    pub(super) fn release_topic(
        &mut self,
        number: AttachmentNumber,
        name: &Arc<str>,
        log: &mut RowLog,
    ) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        if !topic.claims.contains_key(&number) {
            return;
        }
        let done = topic.release(name, number, log);
        let empty = topic.claims.is_empty();
        let Some(attachment) = self.attachments.get_mut(&number) else {
            debug_assert!(false, "a claim without an attachment");
            return;
        };
        let (producer, leaving) = (attachment.row.producer, attachment.row.leaving);
        if done {
            attachment.topics.remove(name);
            self.releasing.remove(&(name.clone(), number));
        } else if !leaving {
            self.releasing.insert((name.clone(), number));
        }
        if !self.is_claimed(name, producer)
            && let Some(topic) = self.topics.get_mut(name)
        {
            topic.set_tombstone(name, producer, None, log);
        }
        self.forget_releases(name, producer, log);
        if empty && is_ephemeral(name) {
            self.remove_topic(name, log);
        }
    }

    /// Whether an attachment of the producer that counts claims the topic.
    pub(super) fn is_claimed(&self, topic: &str, producer: ProducerNumber) -> bool {
        self.is_name_claimed(topic, producer, None)
    }
}
