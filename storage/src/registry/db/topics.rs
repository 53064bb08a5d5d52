//! Applies HTTP writes: creates and deletes topics and channels, sets tombstones.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::invariant::{present, present_mut};
use super::row_log::RowLog;
use super::topic::Topic;
use super::{Note, Outcome, RegistrationDb, Source};
use crate::error::{Error, Result};
use crate::registry::event::Refusal;
use crate::registry::rows::ProducerNumber;
use crate::registry::values::{ProducerId, UnixMillis};

impl RegistrationDb {
    /// Creates a topic, if it is not listed. Returns its shared name.
    pub(super) fn create_topic(&mut self, name: &str, log: &mut RowLog) -> Arc<str> {
        if let Some((shared, _)) = self.topics.get_key_value(name) {
            return shared.clone();
        }
        let shared: Arc<str> = name.into();
        let topic = Topic::create(&shared, log);
        self.topics.insert(shared.clone(), topic);
        shared
    }

    pub(super) fn delete_topic(
        &mut self,
        source: Source,
        name: &str,
        log: &mut RowLog,
    ) -> Result<()> {
        let holders = self.holders(source, name, None)?;
        source.note_own(log, || Note::Deleted {
            topic: name.into(),
            channel: None,
            holders,
        });
        if let Some((name, _)) = self.topics.get_key_value(name) {
            let name = name.clone();
            self.remove_topic(&name, log)?;
        }
        Ok(())
    }

    /// Removes a topic in a time that does not depend on its number of channels.
    pub(super) fn remove_topic(&mut self, name: &Arc<str>, log: &mut RowLog) -> Result<()> {
        let Some(topic) = self.topics.remove(name) else {
            return Err(Error::invariant(format!("topic {name} is removed twice")));
        };
        log.state_hash = log.state_hash.wrapping_sub(topic.hash);
        let signed = |count: usize| isize::try_from(count).unwrap_or(isize::MAX);
        log.channels -= signed(topic.channels.len());
        for (number, claim) in &topic.claims {
            log.claims -= signed(1 + claim.len());
            let attachment = present_mut(&mut self.attachments, number, "attachment")?;
            let indexed = attachment.topics.remove(name);
            debug_assert!(
                indexed,
                "attachment {number} does not know its topic {name}"
            );
            if claim.releasing {
                self.releasing.remove(&(name.clone(), *number));
            }
        }
        self.given_up.remove(name);
        log.topic(name, false);
        log.discard_topic(topic);
        Ok(())
    }

    pub(super) fn delete_channel(
        &mut self,
        source: Source,
        topic_name: &str,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<Outcome> {
        let holders = self.holders(source, topic_name, Some(channel))?;
        let found = self
            .topics
            .get_key_value(topic_name)
            .filter(|(_, topic)| topic.channels.contains_key(channel));
        let Some((name, _)) = found else {
            // A client that asks all members in turn finds it gone at the second.
            let just_deleted = match source.origin {
                Some(origin) => self.deleted.asked_again(origin, topic_name, channel, log)?,
                None => false,
            };
            return Ok(match just_deleted {
                true => Ok(()),
                false => Err(Refusal::ChannelNotFound),
            });
        };
        let name = name.clone();
        let topic = present_mut(&mut self.topics, &name, "topic")?;
        topic.delete_channel(&name, channel, log)?;
        self.forget_channel(&name, channel, log)?;
        source.note_own(log, || Note::Deleted {
            topic: topic_name.into(),
            channel: Some(channel.into()),
            holders,
        });
        if let Some(origin) = source.origin {
            self.deleted.insert(origin, topic_name, channel, log)?;
        }
        Ok(Ok(()))
    }

    /// The producers that claim a name at the member that notes are collected for.
    fn holders(
        &self,
        source: Source,
        topic: &str,
        channel: Option<&str>,
    ) -> Result<Vec<ProducerId>> {
        let mut holders = Vec::new();
        let (Some(member), Some(topic)) = (source.noted, self.topics.get(topic)) else {
            return Ok(holders);
        };
        for (number, claim) in &topic.claims {
            if channel.is_none_or(|channel| claim.has(channel)) {
                let row = &present(&self.attachments, number, "attachment")?.row;
                if row.member == member {
                    let producer = present(&self.producers, &row.producer, "producer")?;
                    holders.push(producer.row.id.clone());
                }
            }
        }
        Ok(holders)
    }

    pub(super) fn tombstone(
        &mut self,
        topic: &str,
        node: &str,
        at: UnixMillis,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some((name, topic)) = self.topics.get_key_value(topic) else {
            return Ok(());
        };
        let name = name.clone();
        let mut producers = BTreeSet::new();
        for number in topic.claims.keys() {
            let row = &present(&self.attachments, number, "attachment")?.row;
            if !row.leaving && self.is_node(row.producer, node)? {
                producers.insert(row.producer);
            }
        }
        let topic = present_mut(&mut self.topics, &name, "topic")?;
        for number in producers {
            topic.set_tombstone(&name, number, Some(at), log);
        }
        Ok(())
    }

    /// Whether `node`, upstream's `broadcast_address:http_port` in tombstone requests, means this
    /// producer.
    fn is_node(&self, number: ProducerNumber, node: &str) -> Result<bool> {
        let producer = present(&self.producers, &number, "producer")?;
        let port = node
            .strip_prefix(producer.row.id.broadcast_address.as_str())
            .and_then(|rest| rest.strip_prefix(':'));
        let Some(port) = port else {
            return Ok(false);
        };
        for number in producer.attachments.values() {
            let attachment = present(&self.attachments, number, "attachment")?;
            if attachment.row.info.http_port.to_string() == port {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
