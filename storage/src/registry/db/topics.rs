//! Topics and channels as HTTP requests change them: create, delete, tombstone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::row_log::RowLog;
use super::topic::Topic;
use super::{Note, RegistrationDb, Source};
use crate::error::Result;
use crate::registry::event::Refusal;
use crate::registry::rows::ProducerNumber;
use crate::registry::values::{ProducerId, UnixMillis};

impl RegistrationDb {
    /// Returns the topic's shared name.
    pub(super) fn create_topic(&mut self, name: &str, log: &mut RowLog) -> Arc<str> {
        if let Some((shared, _)) = self.topics.get_key_value(name) {
            return shared.clone();
        }
        let shared: Arc<str> = name.into();
        let topic = Topic::create(&shared, log);
        self.topics.insert(shared.clone(), topic);
        shared
    }

    pub(super) fn delete_topic(&mut self, source: Source, name: &str, log: &mut RowLog) {
        let holders = self.holders(source, name, None);
        source.note_own(log, || Note::Deleted {
            topic: name.into(),
            channel: None,
            holders,
        });
        if let Some((name, _)) = self.topics.get_key_value(name) {
            let name = name.clone();
            self.remove_topic(&name, log);
        }
    }

    /// Costs the same for any number of channels.
    pub(super) fn remove_topic(&mut self, name: &Arc<str>, log: &mut RowLog) {
        let Some(topic) = self.topics.remove(name) else {
            return;
        };
        log.state_hash = log.state_hash.wrapping_sub(topic.hash);
        let signed = |count: usize| isize::try_from(count).unwrap_or(isize::MAX);
        log.channels -= signed(topic.channels.len());
        for (number, claim) in &topic.claims {
            log.claims -= signed(1 + claim.len());
            if let Some(attachment) = self.attachments.get_mut(number) {
                attachment.topics.remove(name);
            }
            if claim.releasing {
                self.releasing.remove(&(name.clone(), *number));
            }
        }
        self.given_up.remove(name);
        log.topic(name, false);
        log.discard_topic(topic);
    }

    pub(super) fn delete_channel(
        &mut self,
        source: Source,
        topic_name: &str,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<std::result::Result<(), Refusal>> {
        let holders = self.holders(source, topic_name, Some(channel));
        let found = self
            .topics
            .get_key_value(topic_name)
            .filter(|(_, topic)| topic.channels.contains_key(channel));
        let Some((name, _)) = found else {
            // Whoever asks all members one after the other finds it gone at the second.
            let just_deleted =
                self.deleted
                    .asked_again(topic_name, channel, source.member, source.at, log)?;
            return Ok(match just_deleted {
                true => Ok(()),
                false => Err(Refusal::ChannelNotFound),
            });
        };
        let name = name.clone();
        if let Some(topic) = self.topics.get_mut(&name) {
            topic.delete_channel(&name, channel, log);
            self.forget_channel(&name, channel, log);
        }
        source.note_own(log, || Note::Deleted {
            topic: topic_name.into(),
            channel: Some(channel.into()),
            holders,
        });
        let (member, at) = (source.member, source.at);
        self.deleted.insert(topic_name, channel, member, at, log)?;
        Ok(Ok(()))
    }

    /// The producers that claim a name at the member that notes are for.
    pub(super) fn holders(
        &self,
        source: Source,
        topic: &str,
        channel: Option<&str>,
    ) -> Vec<ProducerId> {
        let (Some(member), Some(topic)) = (source.noted, self.topics.get(topic)) else {
            return Vec::new();
        };
        let claims = topic.claims.iter();
        let claims = claims.filter(|(_, claim)| channel.is_none_or(|channel| claim.has(channel)));
        let attachments = claims.filter_map(|(number, _)| self.attachments.get(number));
        let own = attachments.filter(|attachment| attachment.row.member == member);
        own.filter_map(|attachment| self.producers.get(&attachment.row.producer))
            .map(|producer| producer.row.id.clone())
            .collect()
    }

    pub(super) fn tombstone(&mut self, topic: &str, node: &str, at: UnixMillis, log: &mut RowLog) {
        let Some((name, topic)) = self.topics.get_key_value(topic) else {
            return;
        };
        let name = name.clone();
        let claimants = topic.claims.keys();
        let producers: BTreeSet<ProducerNumber> = claimants
            .filter_map(|number| self.attachments.get(number))
            .filter(|attachment| !attachment.row.leaving)
            .map(|attachment| attachment.row.producer)
            .filter(|number| self.is_node(*number, node))
            .collect();
        if let Some(topic) = self.topics.get_mut(&name) {
            for number in producers {
                topic.set_tombstone(&name, number, Some(at), log);
            }
        }
    }

    /// Whether upstream's form in tombstone requests, `broadcast_address:http_port`, means this
    /// producer.
    pub(super) fn is_node(&self, number: ProducerNumber, node: &str) -> bool {
        let Some(producer) = self.producers.get(&number) else {
            return false;
        };
        let port = node
            .strip_prefix(producer.row.id.broadcast_address.as_str())
            .and_then(|rest| rest.strip_prefix(':'));
        port.is_some_and(|port| {
            let attachments = producer.attachments.values();
            let mut attachments = attachments.filter_map(|number| self.attachments.get(number));
            attachments.any(|attachment| attachment.row.info.http_port.to_string() == port)
        })
    }
}
