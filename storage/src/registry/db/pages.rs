//! Answers long queries in pages. Making a page takes bounded time, so that neither the state
//! machine nor other readers wait while a long answer is built.
//!
//! Every fact on a page was true when the page was made. A page ends with where the next one
//! starts. Producer numbers are reused, so a number from an earlier page may since belong to
//! another producer: every lookup by number is checked again.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::{Lifetimes, ProducerView, RegistrationDb};
use crate::registry::rows::{AttachmentNumber, ProducerNumber};
use crate::registry::values::{PeerInfo, ProducerId, UnixMillis};

/// A producer, copied out of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerCopy {
    /// What a consumer dials.
    pub id: ProducerId,
    /// As [`ProducerView::remote_address`].
    pub remote_address: String,
    /// As [`ProducerView::info`].
    pub info: PeerInfo,
    /// As [`ProducerView::attached_at`].
    pub attached_at: UnixMillis,
}

impl ProducerCopy {
    /// As queries return it.
    pub fn view(&self) -> ProducerView<'_> {
        ProducerView {
            id: &self.id,
            remote_address: &self.remote_address,
            info: &self.info,
            attached_at: self.attached_at,
        }
    }
}

impl From<ProducerView<'_>> for ProducerCopy {
    fn from(view: ProducerView<'_>) -> Self {
        ProducerCopy {
            id: view.id.clone(),
            remote_address: view.remote_address.to_string(),
            info: view.info.clone(),
            attached_at: view.attached_at,
        }
    }
}

/// A producer as listed by /nodes, with some of its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePage {
    /// Its number, after which the next page starts.
    pub number: ProducerNumber,
    /// The producer.
    pub producer: ProducerCopy,
    /// Topics in order, each with whether the producer is tombstoned for it.
    pub topics: Vec<(Arc<str>, bool)>,
    /// Whether there are more topics.
    pub more: bool,
}

impl RegistrationDb {
    /// The topics after this one, in order.
    pub fn topics_after(&self, topic: Option<&str>, most: usize) -> Vec<Arc<str>> {
        let from = topic.map_or(Unbounded, Excluded);
        let topics = self.topics.range::<str, _>((from, Unbounded));
        topics.take(most).map(|(name, _)| name.clone()).collect()
    }

    /// The topic's channels after this one, in order; `None` if the topic is not listed.
    pub fn channels_after(
        &self,
        topic: &str,
        channel: Option<&str>,
        most: usize,
    ) -> Option<Vec<Arc<str>>> {
        let from = channel.map_or(Unbounded, Excluded);
        let channels = &self.topics.get(topic)?.channels;
        let channels = channels.range::<str, _>((from, Unbounded));
        Some(channels.take(most).map(|(name, _)| name.clone()).collect())
    }

    /// The number of a topic's channels and claims: an answer about it takes time proportional to
    /// it.
    pub fn size_of(&self, topic: &str) -> usize {
        self.topics
            .get(topic)
            .map_or(0, |topic| topic.channels.len() + topic.claims.len())
    }

    /// The active producers after this number, with their topics, and the number after which to go
    /// on, if there are more. Only the last producer can have more topics.
    pub fn nodes_after(
        &self,
        behind: Option<ProducerNumber>,
        lifetimes: Lifetimes,
        most: usize,
    ) -> (Vec<NodePage>, Option<ProducerNumber>) {
        let from = behind.map_or(Unbounded, Excluded);
        let mut pages = Vec::new();
        let mut left = most;
        for number in self
            .producers
            .range((from, Unbounded))
            .map(|(number, _)| *number)
        {
            left = left.saturating_sub(1);
            if let Some(page) = self.node_topics_after(number, None, lifetimes, most) {
                left = left.saturating_sub(page.topics.len());
                pages.push(page);
            }
            let more = pages.last().is_some_and(|page| page.more);
            if left == 0 || more {
                return (pages, Some(number));
            }
        }
        (pages, None)
    }

    /// An active producer with its topics after this one; `None` if it is not listed.
    pub fn node_topics_after(
        &self,
        number: ProducerNumber,
        topic: Option<&str>,
        lifetimes: Lifetimes,
        most: usize,
    ) -> Option<NodePage> {
        let producer = self.producers.get(&number)?;
        let from = topic.map_or(Unbounded, Excluded);
        let mut listed = self.listed_attachments(producer, lifetimes).peekable();
        listed.peek()?;
        let mut names = BTreeSet::new();
        for (attachment_number, attachment) in listed {
            let topics = attachment.topics.range::<str, _>((from, Unbounded));
            let topics = topics.filter(|name| !self.is_releasing(name, attachment_number));
            names.extend(topics.take(most + 1).cloned());
        }
        let more = names.len() > most;
        let topics = names.into_iter().take(most).map(|name| {
            let topic = self.topics.get(&name);
            let tombstoned = topic.is_some_and(|topic| topic.is_tombstoned(number, lifetimes));
            (name, tombstoned)
        });
        Some(NodePage {
            number,
            topics: topics.collect(),
            producer: self.view(producer)?.into(),
            more,
        })
    }

    /// The producers after this number, inactive ones included, as /debug lists clients.
    pub fn clients_after(
        &self,
        number: Option<ProducerNumber>,
        most: usize,
    ) -> Vec<(ProducerNumber, Option<ProducerCopy>)> {
        let from = number.map_or(Unbounded, Excluded);
        let producers = self.producers.range((from, Unbounded)).take(most);
        producers
            .map(|(number, producer)| (*number, self.view(producer).map(ProducerCopy::from)))
            .collect()
    }

    /// The producers registered for a topic, or for a channel of it, inactive ones included, by
    /// attachments after this one; and the attachment after which to go on, if there are more.
    /// `None` if the topic is not listed.
    pub fn claimants_after(
        &self,
        topic: &str,
        channel: Option<&str>,
        behind: Option<AttachmentNumber>,
        most: usize,
    ) -> Option<(Vec<ProducerNumber>, Option<AttachmentNumber>)> {
        let topic = self.topics.get(topic)?;
        let from = behind.map_or(Unbounded, Excluded);
        let claims = topic.claims.range((from, Unbounded)).take(most);
        let next = claims.clone().last().map(|(number, _)| *number);
        let next = next.filter(|last| {
            let mut more = topic.claims.range((Excluded(*last), Unbounded));
            more.next().is_some()
        });
        let claims = claims.filter(|(number, _)| topic.is_claimed_by(**number, channel));
        let attachments = claims.filter_map(|(number, _)| self.attachments.get(number));
        let attachments = attachments.filter(|attachment| !attachment.row.leaving);
        let numbers = attachments.map(|attachment| attachment.row.producer);
        Some((numbers.collect(), next))
    }

    /// Those of these producers that are registered for a topic, or for a channel of it, inactive
    /// ones included, each with the time of its tombstone.
    pub fn debug_copies(
        &self,
        topic: &str,
        channel: Option<&str>,
        numbers: &[ProducerNumber],
    ) -> Vec<(ProducerCopy, Option<UnixMillis>)> {
        // As upstream, a tombstone marks the topic's producer only.
        let marked = self.topics.get(topic).filter(|_| channel.is_none());
        let copy = |number: &ProducerNumber| {
            let view = self.view(self.producers.get(number)?)?;
            let tombstoned_at = marked.and_then(|topic| topic.tombstones.get(number));
            Some((ProducerCopy::from(view), tombstoned_at.copied()))
        };
        let claimants = numbers
            .iter()
            .filter(|number| self.is_name_claimed(topic, **number, channel));
        claimants.filter_map(copy).collect()
    }

    /// The producers that a topic lists, by attachments after this one, and the attachment after
    /// which to go on, if there are more. `None` if the topic is not listed.
    pub fn listed_after(
        &self,
        topic: &str,
        behind: Option<AttachmentNumber>,
        lifetimes: Lifetimes,
        most: usize,
    ) -> Option<(Vec<ProducerNumber>, Option<AttachmentNumber>)> {
        let topic = self.topics.get(topic)?;
        let from = behind.map_or(Unbounded, Excluded);
        let claims = topic.claims.range((from, Unbounded)).take(most);
        let last = claims.clone().last().map(|(number, _)| *number);
        let next = last.filter(|last| {
            topic
                .claims
                .range((Excluded(*last), Unbounded))
                .next()
                .is_some()
        });
        let mut numbers = self.listed_producers(claims, lifetimes);
        numbers.retain(|number| !topic.is_tombstoned(*number, lifetimes));
        Some((numbers, next))
    }

    /// Those of these producers that a topic lists.
    pub fn listed_copies(
        &self,
        topic: &str,
        numbers: &[ProducerNumber],
        lifetimes: Lifetimes,
    ) -> Vec<ProducerCopy> {
        let Some(topic) = self.topics.get(topic) else {
            return Vec::new();
        };
        let listed = numbers.iter().filter_map(|number| {
            let producer = self.producers.get(number)?;
            let mut listed = self.listed_attachments(producer, lifetimes);
            let is_listed = listed.any(|(attachment, _)| topic.is_claimed_by(attachment, None));
            (is_listed && !topic.is_tombstoned(*number, lifetimes)).then(|| self.view(producer))?
        });
        listed.map(ProducerCopy::from).collect()
    }
}
