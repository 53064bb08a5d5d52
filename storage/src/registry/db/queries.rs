//! Answers queries. Each takes time proportional to the size of its result.

use std::collections::BTreeSet;

use super::topic::{Topic, TopicClaim};
use super::{Attachment, Producer, RegistrationDb};
use crate::registry::rows::{AttachmentNumber, AttachmentRow, ProducerNumber};
use crate::registry::values::{MemberId, PeerInfo, ProducerId, UnixMillis};

/// The times that a query about producers depends on.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// The cluster's time.
    pub now: UnixMillis,
    /// How long a tombstone hides a producer, in milliseconds.
    pub tombstone: u64,
    /// How long a member may be away before its attachments are hidden, in milliseconds.
    pub away: u64,
}

/// A producer as listed by /lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerView<'a> {
    /// What a consumer dials.
    pub id: &'a ProducerId,
    /// The nsqd's address in its newest session.
    pub remote_address: &'a str,
    /// What the nsqd reported about itself in its newest session.
    pub info: &'a PeerInfo,
    /// When that session began.
    pub attached_at: UnixMillis,
}

/// A producer as listed by /nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView<'a> {
    /// The producer.
    pub producer: ProducerView<'a>,
    /// Its topics in order, each with whether it is tombstoned for it.
    pub topics: Vec<(&'a str, bool)>,
}

/// A registration as listed by /debug, with its producers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugEntry<'a> {
    /// `client`, `topic` or `channel`.
    pub category: &'static str,
    /// The topic; empty for clients.
    pub key: &'a str,
    /// The channel; empty for clients and topics.
    pub subkey: &'a str,
    /// The registered producers, inactive ones included, each with the time of its tombstone.
    pub producers: Vec<(ProducerView<'a>, Option<UnixMillis>)>,
}

/// The registry's totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Topics.
    pub topics: usize,
    /// Channels.
    pub channels: usize,
    /// Producers, inactive ones included.
    pub producers: usize,
    /// Attachments: one for each producer and member with sessions of it.
    pub attachments: usize,
    /// Claims on topics and channels.
    pub claims: usize,
}

impl RegistrationDb {
    /// All topics, in order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &str> {
        self.topics.keys().map(|name| &**name)
    }

    /// The topic's channels, in order; `None` if the topic is not listed.
    pub fn channels(&self, topic: &str) -> Option<impl ExactSizeIterator<Item = &str>> {
        let topic = self.topics.get(topic)?;
        Some(topic.channels.keys().map(|name| &**name))
    }

    /// The topic's active producers, without tombstoned ones; `None` if the topic is not listed.
    pub fn producers(
        &self,
        topic: &str,
        lifetimes: Lifetimes,
    ) -> Option<impl Iterator<Item = ProducerView<'_>>> {
        let topic = self.topics.get(topic)?;
        let numbers = self.listed_producers(topic.claims.iter(), lifetimes);
        let shown = numbers
            .into_iter()
            .filter(move |number| !topic.is_tombstoned(*number, lifetimes));
        Some(shown.filter_map(|number| self.view(self.producers.get(&number)?)))
    }

    /// All active producers with their topics.
    pub fn nodes(&self, lifetimes: Lifetimes) -> impl Iterator<Item = NodeView<'_>> {
        self.producers.iter().filter_map(move |(number, producer)| {
            let mut listed = self.listed_attachments(producer, lifetimes).peekable();
            listed.peek()?;
            let names: BTreeSet<&str> = listed
                .flat_map(|(number, attachment)| {
                    let topics = attachment.topics.iter().map(|name| &**name);
                    topics.filter(move |name| !self.is_releasing(name, number))
                })
                .collect();
            let topics = names.into_iter().map(|name| {
                let topic = self.topics.get(name);
                let tombstoned = topic.is_some_and(|topic| topic.is_tombstoned(*number, lifetimes));
                (name, tombstoned)
            });
            Some(NodeView {
                topics: topics.collect(),
                producer: self.view(producer)?,
            })
        })
    }

    /// Every registration that has a producer: clients, then each topic and its channels.
    pub fn debug(&self) -> impl Iterator<Item = DebugEntry<'_>> {
        let clients = DebugEntry {
            category: "client",
            key: "",
            subkey: "",
            producers: self
                .producers
                .values()
                .filter_map(|producer| Some((self.view(producer)?, None)))
                .collect(),
        };
        let topics = self.topics.iter().flat_map(move |(key, topic)| {
            let channels = topic.channels.keys();
            let channels = channels.map(move |subkey| DebugEntry {
                category: "channel",
                key,
                subkey,
                producers: self.debug_producers(topic, Some(subkey)),
            });
            let of_topic = DebugEntry {
                category: "topic",
                key,
                subkey: "",
                producers: self.debug_producers(topic, None),
            };
            std::iter::once(of_topic).chain(channels)
        });
        std::iter::once(clients)
            .chain(topics)
            .filter(|entry| !entry.producers.is_empty())
    }

    /// The producers registered for a topic, or for a channel of it, inactive ones included, each
    /// with the time of its tombstone there.
    pub(super) fn debug_producers<'a>(
        &'a self,
        topic: &Topic,
        channel: Option<&str>,
    ) -> Vec<(ProducerView<'a>, Option<UnixMillis>)> {
        let claims = topic.claims.iter().filter(|(_, claim)| !claim.releasing);
        let claims = claims.filter(|(_, claim)| channel.is_none_or(|channel| claim.has(channel)));
        let attachments = claims.filter_map(|(number, _)| self.attachments.get(number));
        let numbers: BTreeSet<ProducerNumber> = attachments
            .filter(|attachment| !attachment.row.leaving)
            .map(|attachment| attachment.row.producer)
            .collect();
        let entry = |number: ProducerNumber| {
            let view = self.view(self.producers.get(&number)?)?;
            // As upstream, a tombstone marks the topic's producer only.
            let tombstoned_at = topic.tombstones.get(&number).filter(|_| channel.is_none());
            Some((view, tombstoned_at.copied()))
        };
        numbers.into_iter().filter_map(entry).collect()
    }

    /// The registry's totals.
    pub fn totals(&self) -> Totals {
        Totals {
            topics: self.topics.len(),
            channels: self.channel_count,
            producers: self.producers.len(),
            attachments: self.attachments.len(),
            claims: self.claim_count,
        }
    }

    /// The producers that these claims list, once each.
    pub(super) fn listed_producers<'a>(
        &self,
        claims: impl Iterator<Item = (&'a AttachmentNumber, &'a TopicClaim)>,
        lifetimes: Lifetimes,
    ) -> Vec<ProducerNumber> {
        let mut numbers: Vec<ProducerNumber> = claims
            .filter(|(_, claim)| !claim.releasing)
            .filter_map(|(number, _)| self.attachments.get(number))
            .filter(|attachment| self.is_listed(attachment, lifetimes))
            .map(|attachment| attachment.row.producer)
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The attachments that make a producer listed.
    pub(super) fn listed_attachments<'a>(
        &'a self,
        producer: &'a Producer,
        lifetimes: Lifetimes,
    ) -> impl Iterator<Item = (AttachmentNumber, &'a Attachment)> {
        let attachments = producer.attachments.values();
        let attachments =
            attachments.filter_map(|number| Some((*number, self.attachments.get(number)?)));
        attachments.filter(move |(_, attachment)| self.is_listed(attachment, lifetimes))
    }

    fn is_listed(&self, attachment: &Attachment, lifetimes: Lifetimes) -> bool {
        let AttachmentRow {
            active,
            leaving,
            member,
            ..
        } = attachment.row;
        active && !leaving && !self.is_hidden(member, lifetimes)
    }

    /// Whether a member's attachments are hidden: it was removed, or has been away for too long.
    pub fn is_hidden(&self, member: MemberId, lifetimes: Lifetimes) -> bool {
        self.members.get(&member).is_some_and(|member| {
            let away = member.row.away;
            // A time in the future was recorded a moment ago by a clock that is ahead.
            let too_long =
                away.is_some_and(|away| lifetimes.now.saturating_sub(away.since) > lifetimes.away);
            member.row.removed || too_long
        })
    }

    pub(super) fn is_releasing(&self, topic: &str, number: AttachmentNumber) -> bool {
        // There is rarely one.
        !self.releasing.is_empty()
            && self
                .topics
                .get(topic)
                .is_some_and(|topic| !topic.is_claimed_by(number, None))
    }

    /// A producer as its newest session describes it; of equal times the higher member wins, so
    /// that every member gives the same answer. `None` if no attachment is live.
    pub(super) fn view<'a>(&'a self, producer: &'a Producer) -> Option<ProducerView<'a>> {
        let attachments = producer.attachments.values();
        let rows = attachments.filter_map(|number| Some(&self.attachments.get(number)?.row));
        let newest = rows.max_by_key(|row| (row.at, row.member))?;
        Some(ProducerView {
            id: &producer.row.id,
            remote_address: &newest.remote_address,
            info: &newest.info,
            attached_at: newest.at,
        })
    }
}

impl Topic {
    pub(super) fn is_tombstoned(&self, number: ProducerNumber, lifetimes: Lifetimes) -> bool {
        // A time in the near future was set just now, by a clock that is slightly ahead. A time in
        // the far future was set by a clock that was wrong before the cluster was restarted; it
        // must not hide a producer indefinitely.
        let set_at = self.tombstones.get(&number);
        set_at.is_some_and(|at| lifetimes.now.abs_diff(*at) < lifetimes.tombstone)
    }
}
