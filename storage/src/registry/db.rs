//! The registry itself: event in, changes out. PURE.
//!
//! The counterpart of upstream's `registration_db.go`, with its rules in one place:
//!
//! - A claim of a channel also claims its topic; releasing a topic releases its channels.
//! - A topic or channel stays listed when its last claim goes; an `#ephemeral` one is
//!   removed then, for whatever reason the claim went. (Upstream forgets to on disconnect.)
//! - Deleting a topic or channel removes every claim on it; only a new claim brings it back.
//! - A tombstone belongs to (topic, producer) and ends at the latest when the producer's
//!   last claim on the topic goes.
//! - Names are literal; `*` is no wildcard. (Upstream's is: one request wipes everything.)
//!
//! An attachment is *present* while its member is not away and has recorded it in its newest
//! incarnation. One that is not present stays listed, since its nsqd is most likely alive, until
//! the nsqd's own word at a present member, or time, says otherwise:
//!
//! - a release at a present member takes the same name from attachments that are not present,
//!   and is remembered for those that turn out not to be ([`Event::ExpireName`]);
//! - the end of a session at a present member is remembered, and [`Event::Expire`] takes what is
//!   not present some time later, unless the producer attaches again.
//!
//! # Invariants
//! - Deterministic: no clock, no randomness, ordered maps wherever order can be seen. Time
//!   comes in events, stamped by the proposer, or as the `now` of a query.
//! - A batch is applied once: (incarnation, sequence) of a member only ever grows.
//! - Every claim of a channel belongs to a claim of its topic, and that to an attachment.
//! - The work of one step is bounded, whatever the event and however large the topic or session;
//!   what is left over no longer counts and is removed by [`Event::Sweep`]s.
//! - [`RegistrationDb::state_hash`] is the sum of the hashes of all [rows](crate::registry::rows).

mod applying;
mod attachments;
mod deleted;
mod load;
mod members;
mod names;
mod number_pool;
mod owned;
mod pages;
mod queries;
mod released;
mod row_log;
mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Result;
use crate::registry::event::{Event, Refusal};
use crate::registry::rows::{AttachmentNumber, AttachmentRow, ProducerNumber, ProducerRow};
use crate::registry::values::{MemberId, ProducerId, UnixMillis, is_ephemeral};
pub use applying::{Applied, Applying, Step};
use deleted::DeletedChannels;
pub(crate) use load::Loader;
use members::Member;
use number_pool::NumberPool;
pub use owned::{Name, Recorded};
pub use pages::{NodePage, ProducerCopy};
pub use queries::{DebugEntry, Lifetimes, NodeView, ProducerView, Totals};
pub use released::{ExpirableName, ReleasedCursor};
use row_log::RowLog;
pub use row_log::{Change, Discarded};
use topic::Topic;

/// Topics, channels and who has them, of the whole cluster.
#[derive(Debug, Default)]
pub struct RegistrationDb {
    members: BTreeMap<MemberId, Member>,
    producers: BTreeMap<ProducerNumber, Producer>,
    numbers: BTreeMap<ProducerId, ProducerNumber>,
    producer_numbers: NumberPool,
    attachments: BTreeMap<AttachmentNumber, Attachment>,
    attachment_numbers: NumberPool,
    /// Attachments that no longer count and whose claims are not all gone.
    leaving: BTreeSet<AttachmentNumber>,
    /// Claims of topics that no longer count, of attachments that do.
    releasing: BTreeSet<(Arc<str>, AttachmentNumber)>,
    topics: BTreeMap<Arc<str>, Topic>,
    /// Topics in which something was given up that others still hold.
    given_up: BTreeSet<Arc<str>>,
    deleted: DeletedChannels,
    channel_count: usize,
    claim_count: usize,
    state_hash: u128,
}

#[derive(Debug)]
struct Producer {
    row: ProducerRow,
    /// Those that count, by member.
    attachments: BTreeMap<MemberId, AttachmentNumber>,
    /// Those that do not, and keep the number taken.
    leaving: u32,
}

#[derive(Debug)]
struct Attachment {
    row: AttachmentRow,
    /// The topics that it claims: the index behind /nodes and detach.
    topics: BTreeSet<Arc<str>>,
}

/// What an applied event means beyond the registry, for the member that keeps sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A batch of the member was applied for the first time, with these refusals.
    Batch {
        /// Its incarnation.
        incarnation: u64,
        /// Its sequence number.
        sequence: u64,
        /// As in [`BatchResult::Applied`](crate::registry::event::BatchResult::Applied).
        refused: Vec<(u32, Refusal)>,
    },
    /// A topic or channel was deleted over HTTP.
    Deleted {
        /// The topic.
        topic: Arc<str>,
        /// The channel, if only that was deleted.
        channel: Option<Arc<str>>,
        /// The producers whose claims at the member went with it.
        holders: Vec<ProducerId>,
    },
    /// The word of another member took a claim of a producer at this member, or all of them.
    Taken {
        /// The producer.
        producer: ProducerId,
        /// The name; `None` if the attachment is gone.
        name: Option<Name>,
    },
}

impl RegistrationDb {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sum of all row hashes: equal at two members that applied the same events.
    pub fn state_hash(&self) -> u128 {
        self.state_hash
    }

    /// Applies one event. A refused one has changed nothing.
    fn apply_event(
        &mut self,
        source: Source,
        event: &Event,
        log: &mut RowLog,
    ) -> Result<std::result::Result<(), Refusal>> {
        match event {
            Event::Attach {
                producer,
                remote_address,
                info,
                at,
            } => {
                let Some(member) = source.member else {
                    return Ok(Err(Refusal::NotAttached));
                };
                let row = AttachmentRow {
                    producer: 0,
                    member,
                    incarnation: source.incarnation,
                    remote_address: remote_address.clone(),
                    info: info.clone(),
                    active: true,
                    at: *at,
                    leaving: false,
                };
                self.attach(producer, row, log)?;
            }
            Event::Claim {
                producer,
                topic,
                channel,
            } => {
                let Some(number) = self.attachment_of(source.member, producer) else {
                    return Ok(Err(Refusal::NotAttached));
                };
                return Ok(self.claim(number, topic, channel.as_deref(), log));
            }
            Event::Release {
                producer,
                topic,
                channel,
            } => self.release(source, producer, topic, channel.as_deref(), log)?,
            Event::Detach { producer, at } => self.detach(source.member, producer, *at, log)?,
            Event::SetActive { producer, active } => {
                let Some(number) = self.attachment_of(source.member, producer) else {
                    return Ok(Err(Refusal::NotAttached));
                };
                self.change_attachment(number, log, |row| row.active = *active)?;
            }
            Event::CreateTopic { topic } => {
                self.create_topic(topic, log);
            }
            Event::DeleteTopic { topic } => self.delete_topic(source, topic, log),
            Event::CreateChannel { topic, channel } => {
                let name = self.create_topic(topic, log);
                if let Some(topic) = self.topics.get_mut(&name) {
                    topic.create_channel(&name, channel, log);
                }
            }
            Event::DeleteChannel { topic, channel } => {
                return self.delete_channel(source, topic, channel, log);
            }
            Event::Tombstone { topic, node, at } => self.tombstone(topic, node, *at, log),
            Event::Away {
                member,
                last_heard,
                at,
            } => self.note_away(*member, *last_heard, *at, log)?,
            Event::Expire { producer, ended } => self.expire(source, producer, *ended, log)?,
            Event::ExpireName {
                producer,
                topic,
                channel,
                released,
            } => {
                let channel = channel.as_deref();
                self.expire_name(source, producer, (topic, channel), *released, log)?;
            }
            Event::RemoveMember { member } => self.remove_member(*member, log)?,
            Event::Sweep => self.sweep(log)?,
        }
        Ok(Ok(()))
    }

    fn claim(
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
    fn release(
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
    fn held_without_presence(
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

    fn release_claim(
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
    fn release_topic(&mut self, number: AttachmentNumber, name: &Arc<str>, log: &mut RowLog) {
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

    /// Returns the topic's shared name.
    fn create_topic(&mut self, name: &str, log: &mut RowLog) -> Arc<str> {
        if let Some((shared, _)) = self.topics.get_key_value(name) {
            return shared.clone();
        }
        let shared: Arc<str> = name.into();
        let topic = Topic::create(&shared, log);
        self.topics.insert(shared.clone(), topic);
        shared
    }

    fn delete_topic(&mut self, source: Source, name: &str, log: &mut RowLog) {
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
    fn remove_topic(&mut self, name: &Arc<str>, log: &mut RowLog) {
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

    fn delete_channel(
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
    fn holders(&self, source: Source, topic: &str, channel: Option<&str>) -> Vec<ProducerId> {
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

    fn tombstone(&mut self, topic: &str, node: &str, at: UnixMillis, log: &mut RowLog) {
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
    fn is_node(&self, number: ProducerNumber, node: &str) -> bool {
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

    /// Whether an attachment of the producer that counts claims the topic.
    fn is_claimed(&self, topic: &str, producer: ProducerNumber) -> bool {
        self.is_name_claimed(topic, producer, None)
    }
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy)]
struct Source {
    /// Whose batch it is in; `None` for the leader's own.
    member: Option<MemberId>,
    incarnation: u64,
    /// When the batch was made.
    at: UnixMillis,
    /// The member that notes are collected for.
    noted: Option<MemberId>,
}

impl Source {
    fn note(self, of: MemberId, log: &mut RowLog, note: impl FnOnce() -> Note) {
        if self.noted == Some(of) {
            log.note(note());
        }
    }

    fn note_own(self, log: &mut RowLog, note: impl FnOnce() -> Note) {
        if self.noted.is_some() {
            log.note(note());
        }
    }
}
