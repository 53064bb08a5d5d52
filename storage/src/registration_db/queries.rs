//! What can be asked of the registry; each answer costs what it is long.

use std::collections::BTreeSet;

use super::{Attachment, Producer, RegistrationDb, Topic};
use crate::registration::{MemberId, PeerInfo, ProducerId, SessionId, UnixMillis};
use crate::rows::{AttachmentRow, MemberRow, ProducerNumber};

/// What a query about producers needs to know of time.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// The reader's wall clock.
    pub now: UnixMillis,
    /// How long a tombstone hides a producer, in milliseconds.
    pub tombstone: u64,
}

/// A producer as lookups show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerView<'a> {
    /// What a consumer dials.
    pub id: &'a ProducerId,
    /// The nsqd's end of its newest session.
    pub remote_address: &'a str,
    /// What the nsqd told of itself in its newest session.
    pub info: &'a PeerInfo,
    /// When that session began.
    pub attached_at: UnixMillis,
}

/// A producer as /nodes shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView<'a> {
    /// The producer.
    pub producer: ProducerView<'a>,
    /// Its topics in order, and whether it is tombstoned for each.
    pub topics: Vec<(&'a str, bool)>,
}

/// A producer as /debug shows it, under one registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugEntry<'a> {
    /// `client`, `topic` or `channel`.
    pub category: &'static str,
    /// The topic; empty for clients.
    pub key: &'a str,
    /// The channel; empty for clients and topics.
    pub subkey: &'a str,
    /// Who is registered, inactive or not, with the time of a tombstone if there is one.
    pub producers: Vec<(ProducerView<'a>, Option<UnixMillis>)>,
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Topics listed.
    pub topics: usize,
    /// Channels listed.
    pub channels: usize,
    /// Producers, inactive ones included.
    pub producers: usize,
    /// Attachments: sessions of nsqds at members.
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

    /// The topic's active producers that no tombstone hides; `None` if the topic is not listed.
    pub fn producers(
        &self,
        topic: &str,
        lifetimes: Lifetimes,
    ) -> Option<impl Iterator<Item = ProducerView<'_>>> {
        let topic = self.topics.get(topic)?;
        Some(topic.claims.by_producer().filter_map(move |claims| {
            let (number, _) = *claims.first()?;
            let producer = self.producers.get(&number)?;
            let listed = claims
                .iter()
                .any(|(_, member)| self.is_listed(producer, *member));
            (listed && !topic.is_tombstoned(number, lifetimes)).then(|| producer.view())?
        }))
    }

    /// All active producers with their topics.
    pub fn nodes(&self, lifetimes: Lifetimes) -> impl Iterator<Item = NodeView<'_>> {
        self.producers.iter().filter_map(move |(number, producer)| {
            let mut listed = producer
                .attachments
                .iter()
                .filter(|(member, attachment)| self.is_active(**member, attachment))
                .peekable();
            listed.peek()?;
            let names: BTreeSet<&str> = listed
                .flat_map(|(_, attachment)| attachment.topics.iter().map(|name| &**name))
                .collect();
            let topics = names
                .into_iter()
                .map(|name| {
                    let topic = self.topics.get(name);
                    (
                        name,
                        topic.is_some_and(|topic| topic.is_tombstoned(*number, lifetimes)),
                    )
                })
                .collect();
            Some(NodeView {
                producer: producer.view()?,
                topics,
            })
        })
    }

    /// Every registration that has a producer: clients, then each topic with its channels.
    pub fn debug(&self) -> impl Iterator<Item = DebugEntry<'_>> {
        let clients = DebugEntry {
            category: "client",
            key: "",
            subkey: "",
            producers: self
                .producers
                .values()
                .filter_map(|producer| Some((producer.view()?, None)))
                .collect(),
        };
        let topics = self.topics.iter().flat_map(move |(key, topic)| {
            let entry = move |category, subkey, claims: &super::ClaimSet| DebugEntry {
                category,
                key,
                subkey,
                producers: claims
                    .producers()
                    .filter_map(|number| {
                        let view = self.producers.get(&number)?.view()?;
                        let tombstoned_at = topic.tombstones.get(&number).copied();
                        // As upstream: a tombstone is a mark on the topic's producer only.
                        Some((view, tombstoned_at.filter(|_| category == "topic")))
                    })
                    .collect(),
            };
            let channels = topic
                .channels
                .iter()
                .map(move |(subkey, claims)| entry("channel", subkey, claims));
            std::iter::once(entry("topic", "", &topic.claims)).chain(channels)
        });
        std::iter::once(clients)
            .chain(topics)
            .filter(|entry| !entry.producers.is_empty())
    }

    /// Whether the session holds this claim; never true for a session that was superseded.
    pub fn has_claim(
        &self,
        member: MemberId,
        session: SessionId,
        topic: &str,
        channel: Option<&str>,
    ) -> bool {
        let number = self.sessions.get(&(member, session));
        let topic = self.topics.get(topic);
        let claims = topic.and_then(|topic| match channel {
            Some(channel) => topic.channels.get(channel),
            None => Some(&topic.claims),
        });
        number
            .zip(claims)
            .is_some_and(|(number, claims)| claims.contains(*number, member))
    }

    /// All claims of the session as (topic, channel), a topic's own claim before its channels';
    /// empty if the session has no attachment.
    pub fn claims_of(
        &self,
        member: MemberId,
        session: SessionId,
    ) -> impl Iterator<Item = (&str, Option<&str>)> {
        let number = self.sessions.get(&(member, session)).copied();
        number.into_iter().flat_map(move |number| {
            let topics = self.attachment(number, member).map(|held| &held.topics);
            topics.into_iter().flatten().flat_map(move |name| {
                let channels = self.topics.get(name).map(|topic| &topic.channels);
                let held = channels
                    .into_iter()
                    .flatten()
                    .filter(move |(_, claims)| claims.contains(number, member))
                    .map(|(channel, _)| (&**name, Some(&**channel)));
                std::iter::once((&**name, None)).chain(held)
            })
        })
    }

    /// The members that have proposed and were not removed.
    pub fn present_members(&self) -> impl Iterator<Item = MemberId> {
        let members = self.members.iter();
        let present = members.filter(|(_, row)| **row != MemberRow::default() && !row.is_removed());
        present.map(|(member, _)| *member)
    }

    /// The highest member id that ever proposed or was removed.
    pub fn last_member(&self) -> Option<MemberId> {
        self.members.keys().next_back().copied()
    }

    /// Whether the session has an attachment: it identified itself, has not been detached,
    /// and no newer session has taken over.
    pub fn is_attached(&self, member: MemberId, session: SessionId) -> bool {
        self.sessions.contains_key(&(member, session))
    }

    /// The sessions that have an attachment at the member, oldest first.
    pub fn sessions_of(&self, member: MemberId) -> impl Iterator<Item = SessionId> {
        let oldest = (member, SessionId::default());
        self.sessions
            .range(oldest..)
            .take_while(move |((owner, _), _)| *owner == member)
            .map(|((_, session), _)| *session)
    }

    /// What is known of the member's batches; `None` if it never proposed one.
    pub fn member(&self, member: MemberId) -> Option<&MemberRow> {
        self.members.get(&member)
    }

    /// How much there is of everything.
    pub fn totals(&self) -> Totals {
        Totals {
            topics: self.topics.len(),
            channels: self.topics.values().map(|topic| topic.channels.len()).sum(),
            producers: self.producers.len(),
            attachments: self.sessions.len(),
            claims: self.claim_count,
        }
    }

    fn attachment(&self, number: ProducerNumber, member: MemberId) -> Option<&Attachment> {
        self.producers.get(&number)?.attachments.get(&member)
    }

    fn is_listed(&self, producer: &Producer, member: MemberId) -> bool {
        let attachment = producer.attachments.get(&member);
        attachment.is_some_and(|attachment| self.is_active(member, attachment))
    }

    fn is_active(&self, member: MemberId, attachment: &Attachment) -> bool {
        let owner: Option<&MemberRow> = self.members.get(&member);
        attachment.row.active && !owner.is_some_and(|owner| owner.suspended)
    }
}

impl Producer {
    /// As the newest session told it; equal times fall to the higher member, so that every
    /// member gives the same answer.
    fn view(&self) -> Option<ProducerView<'_>> {
        let newest =
            |(member, attachment): &(&MemberId, &Attachment)| (attachment.row.at, **member);
        let (_, attachment) = self.attachments.iter().max_by_key(newest)?;
        let AttachmentRow {
            remote_address,
            info,
            at,
            ..
        } = &attachment.row;
        Some(ProducerView {
            id: &self.id,
            remote_address,
            info,
            attached_at: *at,
        })
    }
}

impl Topic {
    fn is_tombstoned(&self, number: ProducerNumber, lifetimes: Lifetimes) -> bool {
        // One that seems to come from the near future has just been set, by a clock that is a
        // little ahead. One from far away comes from a clock that was wrong before the cluster was
        // restarted, and must not hide for ever.
        let set_at = self.tombstones.get(&number);
        set_at.is_some_and(|at| lifetimes.now.abs_diff(*at) < lifetimes.tombstone)
    }
}
