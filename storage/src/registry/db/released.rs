//! Remembers names that a producer released at a present member while other attachments of it still
//! claimed them.
//!
//! An nsqd sends UNREGISTER to all its lookupds, so the other claims normally follow within
//! moments. If a member died at that moment and was not found away yet, its claim must not keep the
//! name listed: the remembered release removes it once the member is found away or restarts.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::invariant::{present, present_mut};
use super::row_log::RowLog;
use super::topic::{Released, Topic};
use super::{Name, Note, RegistrationDb, Source};
use crate::error::Result;
use crate::registry::rows::{AttachmentNumber, ProducerNumber};
use crate::registry::values::{MemberId, ProducerId, UnixMillis};

/// The position of a scan of [`RegistrationDb::expirable_names`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasedCursor {
    topic: Arc<str>,
    last: Option<Released>,
}

/// A name whose claims [`Event::ExpireName`](crate::registry::event::Event::ExpireName) would
/// remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpirableName {
    /// The producer that released it.
    pub producer: ProducerId,
    /// The released name.
    pub name: Name,
    /// When it was released.
    pub released: UnixMillis,
}

impl RegistrationDb {
    /// Finds released names that only absent attachments still claim. Looks at `most` names after
    /// the cursor. The second value is where to go on, if there are more.
    pub fn expirable_names(
        &self,
        behind: Option<&ReleasedCursor>,
        most: usize,
    ) -> (Vec<ExpirableName>, Option<ReleasedCursor>) {
        let mut found = Vec::new();
        let mut looked = 0;
        let begun = behind.map(|cursor| (cursor.topic.clone(), cursor.last.clone()));
        let from = behind.map_or(Unbounded, |cursor| Excluded(cursor.topic.clone()));
        let others = self.given_up.range((from, Unbounded));
        for (name, last) in begun
            .into_iter()
            .chain(others.map(|name| (name.clone(), None)))
        {
            let Some(topic) = self.topics.get(&name) else {
                continue;
            };
            let from = last.map_or(Unbounded, Excluded);
            for (released, at) in topic.released.range((from, Unbounded)) {
                if looked == most {
                    let last = topic.released.range(..released).next_back();
                    let last = last.map(|(released, _)| released.clone());
                    return (found, Some(ReleasedCursor { topic: name, last }));
                }
                looked += 1;
                found.extend(self.expirable_name(&name, topic, released, *at));
            }
        }
        (found, None)
    }

    fn expirable_name(
        &self,
        name: &Arc<str>,
        topic: &Topic,
        (number, channel): &Released,
        released: UnixMillis,
    ) -> Option<ExpirableName> {
        let taken = self.given_up_by(topic, *number, channel.as_deref(), released);
        let producer = self.producers.get(number).filter(|_| !taken.is_empty())?;
        Some(ExpirableName {
            producer: producer.row.id.clone(),
            name: (name.clone(), channel.clone()),
            released,
        })
    }

    pub(super) fn expire_name(
        &mut self,
        source: Source,
        producer: &ProducerId,
        (topic_name, channel): (&str, Option<&str>),
        released: UnixMillis,
        log: &mut RowLog,
    ) -> Result<()> {
        let number = self.numbers.get(producer).copied();
        let found = self.topics.get(topic_name).zip(number);
        let Some((topic, number)) = found else {
            return Ok(());
        };
        let key = (number, channel.map(Arc::from));
        if topic.released.get(&key) != Some(&released) {
            return Ok(());
        }
        for (member, attachment) in self.given_up_by(topic, number, channel, released) {
            self.release_claim(attachment, topic_name, channel, log)?;
            source.note(member, log, || Note::Taken {
                producer: producer.clone(),
                name: Some((topic_name.into(), channel.map(Into::into))),
            });
        }
        Ok(())
    }

    /// The attachments that claim a name which their producer released after their member was last
    /// heard; none while a present one claims it.
    fn given_up_by(
        &self,
        topic: &Topic,
        number: ProducerNumber,
        channel: Option<&str>,
        released: UnixMillis,
    ) -> Vec<(MemberId, AttachmentNumber)> {
        let Some(producer) = self.producers.get(&number) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (member, attachment) in &producer.attachments {
            if !topic.is_claimed_by(*attachment, channel) {
                continue;
            }
            if self.is_present(*attachment) {
                return Vec::new();
            }
            if self.ended_after_last_heard(*attachment, released) {
                found.push((*member, *attachment));
            }
        }
        found
    }

    /// After a release: remembers it if another attachment of the producer still claims the name.
    pub(super) fn remember_release(
        &mut self,
        at: UnixMillis,
        producer: &ProducerId,
        topic: &str,
        channel: Option<&str>,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some(number) = self.numbers.get(producer).copied() else {
            return Ok(());
        };
        let Some((name, found)) = self.topics.get_key_value(topic) else {
            return Ok(());
        };
        let name = name.clone();
        let shared = match channel {
            None => None,
            Some(channel) => match found.channels.get_key_value(channel) {
                Some((shared, _)) => Some(shared.clone()),
                None => return Ok(()),
            },
        };
        if self.is_name_claimed(&name, number, channel) {
            let topic = present_mut(&mut self.topics, &name, "topic")?;
            topic.set_released(&name, &(number, shared), Some(at), log);
            self.given_up.insert(name);
        }
        Ok(())
    }

    /// After a channel was released: forgets the release if no attachment of the producer claims
    /// the channel any longer.
    pub(super) fn forget_release(
        &mut self,
        name: &Arc<str>,
        attachment: AttachmentNumber,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<()> {
        let number = present(&self.attachments, &attachment, "attachment")?
            .row
            .producer;
        if self.is_name_claimed(name, number, Some(channel)) {
            return Ok(());
        }
        self.forget(name, &[(number, Some(channel.into()))], log)
    }

    /// After a topic was released: forgets the releases of names that no attachment of the producer
    /// claims any longer.
    pub(super) fn forget_releases(
        &mut self,
        name: &Arc<str>,
        number: ProducerNumber,
        log: &mut RowLog,
    ) -> Result<()> {
        let mut gone = present(&self.topics, name, "topic")?.released_by(number);
        gone.retain(|(_, channel)| !self.is_name_claimed(name, number, channel.as_deref()));
        self.forget(name, &gone, log)
    }

    /// After a channel was removed: forgets its releases.
    pub(super) fn forget_channel(
        &mut self,
        name: &Arc<str>,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<()> {
        let topic = present(&self.topics, name, "topic")?;
        let of_channel = |released: &&Released| released.1.as_deref() == Some(channel);
        let gone: Vec<Released> = topic.released.keys().filter(of_channel).cloned().collect();
        self.forget(name, &gone, log)
    }

    fn forget(&mut self, name: &Arc<str>, gone: &[Released], log: &mut RowLog) -> Result<()> {
        let topic = present_mut(&mut self.topics, name, "topic")?;
        for released in gone {
            topic.set_released(name, released, None, log);
        }
        if topic.released.is_empty() {
            self.given_up.remove(name);
        }
        Ok(())
    }
}

impl Topic {
    /// Forgets that the producer released a name that it claims again, and with a channel its
    /// topic.
    pub(super) fn claimed_again(
        &mut self,
        name: &Arc<str>,
        number: ProducerNumber,
        channel: Option<&str>,
        log: &mut RowLog,
    ) {
        if self.released.contains_key(&(number, None)) {
            self.set_released(name, &(number, None), None, log);
        }
        if let Some(channel) = channel {
            let key = (number, Some(Arc::from(channel)));
            if self.released.contains_key(&key) {
                self.set_released(name, &key, None, log);
            }
        }
    }
}
