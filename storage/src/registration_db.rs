//! The registry itself: event in, changed rows out. PURE.
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
//! # Invariants
//! - Deterministic: no clock, no randomness, ordered maps wherever order can be seen. Time
//!   comes in events, stamped by the proposer, or as the `now` of a query.
//! - A batch is applied once: (incarnation, sequence) of a member only ever grows.
//! - Every claim belongs to an attachment: a producer without attachments has no claims and
//!   gives its number back.
//! - What ends of sessions take away in one log entry is bounded; the rest is hidden until it is
//!   swept.
//! - [`RegistrationDb::state_hash`] is the sum of the hashes of all [rows](crate::rows).

mod claims;
mod leaving;
mod load;
mod queries;
mod row_log;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::event::{BatchResult, Event, MemberBatch, Proposal, Refusal};
use crate::registration::{MemberId, ProducerId, SessionId, UnixMillis};
use crate::rows::{AttachmentRow, MemberRow, ProducerNumber, Row, RowChange};
use claims::ClaimSet;
pub(crate) use load::Loader;
pub use queries::{DebugEntry, Lifetimes, NodeView, ProducerView, Totals};
use row_log::RowLog;

/// Whose batch an event is in that stands in none.
const NO_MEMBER: MemberId = 0;

/// Topics, channels and who has them, of the whole cluster.
#[derive(Debug, Default)]
pub struct RegistrationDb {
    members: BTreeMap<MemberId, MemberRow>,
    producers: BTreeMap<ProducerNumber, Producer>,
    numbers: BTreeMap<ProducerId, ProducerNumber>,
    sessions: BTreeMap<(MemberId, SessionId), ProducerNumber>,
    /// Attachments whose sessions ended and whose claims are not all gone.
    leaving: BTreeSet<(MemberId, ProducerNumber)>,
    topics: BTreeMap<Arc<str>, Topic>,
    claim_count: usize,
    state_hash: u128,
}

#[derive(Debug)]
struct Producer {
    id: ProducerId,
    attachments: BTreeMap<MemberId, Attachment>,
}

#[derive(Debug)]
struct Attachment {
    row: AttachmentRow,
    /// The topics that this attachment claims: the index behind /nodes and detach.
    topics: BTreeSet<Arc<str>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Topic {
    claims: ClaimSet,
    channels: BTreeMap<Box<str>, ClaimSet>,
    tombstones: BTreeMap<ProducerNumber, UnixMillis>,
}

/// What applying a [`Proposal`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One result per batch, in order.
    pub results: Vec<BatchResult>,
    /// The rows to write, in order; the last change of a key counts.
    pub changes: Vec<RowChange>,
}

impl RegistrationDb {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies every batch that has not been applied before.
    ///
    /// # Errors
    /// [`Encoding`](crate::Error::Encoding) if a row cannot be represented; the registry is
    /// then unusable and the member must stop.
    pub fn apply(&mut self, proposal: &Proposal) -> Result<Applied> {
        let mut log = RowLog::starting_from(self.state_hash);
        let mut results = Vec::with_capacity(proposal.batches.len());
        for batch in &proposal.batches {
            results.push(self.apply_batch(batch, &mut log)?);
        }
        for event in &proposal.own {
            // Nobody waits for a refusal.
            let _ = self.apply_event(NO_MEMBER, event, &mut log)?;
        }
        let (changes, state_hash) = log.finish();
        self.state_hash = state_hash;
        Ok(Applied { results, changes })
    }

    /// The sum of all row hashes: equal at two members that applied the same events.
    pub fn state_hash(&self) -> u128 {
        self.state_hash
    }

    fn apply_batch(&mut self, batch: &MemberBatch, log: &mut RowLog) -> Result<BatchResult> {
        let known = self.members.entry(batch.member).or_default();
        let last = (known.incarnation, known.sequence);
        let this = (batch.incarnation, batch.sequence);
        if this < last {
            return Ok(BatchResult::Superseded);
        }
        if this == last {
            return Ok(BatchResult::Applied {
                refused: known.refused.clone(),
            });
        }
        let mut refused = Vec::new();
        for (position, event) in (0u32..).zip(&batch.events) {
            if let Err(refusal) = self.apply_event(batch.member, event, log)? {
                refused.push((position, refusal));
            }
        }
        self.change_member(batch.member, log, |row| {
            row.incarnation = row.incarnation.max(batch.incarnation);
            row.sequence = batch.sequence;
            row.refused.clone_from(&refused);
        })?;
        Ok(BatchResult::Applied { refused })
    }

    fn apply_event(
        &mut self,
        member: MemberId,
        event: &Event,
        log: &mut RowLog,
    ) -> Result<std::result::Result<(), Refusal>> {
        match event {
            Event::Attach {
                producer,
                session,
                remote_address,
                info,
                at,
            } => {
                let row = AttachmentRow {
                    session: *session,
                    remote_address: remote_address.clone(),
                    info: info.clone(),
                    active: true,
                    at: *at,
                };
                return self.attach(member, producer, row, log);
            }
            Event::Claim {
                session,
                topic,
                channel,
            } => {
                let Some(number) = self.attached(member, *session) else {
                    return Ok(Err(Refusal::NotAttached));
                };
                self.claim(number, member, topic, channel.as_deref(), log)?;
            }
            Event::Release {
                session,
                topic,
                channel,
            } => {
                let Some(number) = self.attached(member, *session) else {
                    return Ok(Err(Refusal::NotAttached));
                };
                match channel {
                    Some(channel) => self.release_channel(number, member, topic, channel, log)?,
                    None => self.release_topic(number, member, topic, log)?,
                }
            }
            Event::Detach { session } => self.detach(member, *session, log)?,
            Event::SetActive { session, active } => {
                return self.set_active(member, *session, *active, log);
            }
            Event::CreateTopic { topic } => {
                self.create_topic(topic, log)?;
            }
            Event::DeleteTopic { topic } => self.delete_topic(topic, log)?,
            Event::CreateChannel { topic, channel } => self.create_channel(topic, channel, log)?,
            Event::DeleteChannel { topic, channel } => {
                return self.delete_channel(topic, channel, log);
            }
            Event::Tombstone { topic, node, at } => self.tombstone(topic, node, *at, log)?,
            Event::SuspendMember { member } => {
                self.change_member(*member, log, |row| row.suspended = true)?;
            }
            Event::ResumeMember { member } => {
                self.change_member(*member, log, |row| row.suspended = false)?;
            }
            Event::RemoveMember { member } => self.remove_member(*member, log)?,
            Event::Sweep => self.sweep(log)?,
        }
        Ok(Ok(()))
    }

    fn attach(
        &mut self,
        member: MemberId,
        id: &ProducerId,
        row: AttachmentRow,
        log: &mut RowLog,
    ) -> Result<std::result::Result<(), Refusal>> {
        if self.sessions.contains_key(&(member, row.session)) {
            return Ok(Err(Refusal::NotAttached));
        }
        let number = match self.numbers.get(id) {
            Some(number) => *number,
            None => {
                let number = self.smallest_free_number();
                log.insert(&Row::Producer(number, id.clone()))?;
                self.numbers.insert(id.clone(), number);
                self.producers.insert(number, Producer::new(id.clone()));
                number
            }
        };
        let Some(producer) = self.producers.get_mut(&number) else {
            return Ok(Err(Refusal::NotAttached));
        };
        let session = row.session;
        let new = Row::Attachment(number, member, row.clone());
        match producer.attachments.get_mut(&member) {
            Some(attachment) if attachment.row.session > session => {
                return Ok(Err(Refusal::NotAttached));
            }
            Some(attachment) => {
                let old = std::mem::replace(&mut attachment.row, row);
                self.sessions.remove(&(member, old.session));
                self.leaving.remove(&(member, number));
                log.replace(&Row::Attachment(number, member, old), &new)?;
            }
            None => {
                producer.attachments.insert(member, Attachment::new(row));
                log.insert(&new)?;
            }
        }
        self.sessions.insert((member, session), number);
        Ok(Ok(()))
    }

    fn claim(
        &mut self,
        number: ProducerNumber,
        member: MemberId,
        topic_name: &str,
        channel: Option<&str>,
        log: &mut RowLog,
    ) -> Result<()> {
        let name = self.create_topic(topic_name, log)?;
        let Some(topic) = self.topics.get_mut(topic_name) else {
            return Ok(());
        };
        if let Some(channel) = channel {
            topic.create_channel(topic_name, channel, log)?;
            if let Some(claims) = topic.channels.get_mut(channel)
                && claims.insert(number, member)
            {
                self.claim_count += 1;
                log.insert(&claim_row(topic_name, channel, number, member))?;
            }
        }
        if topic.claims.insert(number, member) {
            self.claim_count += 1;
            log.insert(&claim_row(topic_name, "", number, member))?;
            if let Some(attachment) = self.attachment_mut(number, member) {
                attachment.topics.insert(name);
            }
        }
        Ok(())
    }

    fn release_channel(
        &mut self,
        number: ProducerNumber,
        member: MemberId,
        topic_name: &str,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some(topic) = self.topics.get_mut(topic_name) else {
            return Ok(());
        };
        let Some(claims) = topic.channels.get_mut(channel) else {
            return Ok(());
        };
        if claims.remove(number, member) {
            self.claim_count -= 1;
            log.remove(&claim_row(topic_name, channel, number, member))?;
        }
        // As upstream: also if the caller never held it.
        if claims.is_empty() && crate::registration::is_ephemeral(channel) {
            topic.channels.remove(channel);
            log.remove(&channel_row(topic_name, channel))?;
        }
        Ok(())
    }

    fn release_topic(
        &mut self,
        number: ProducerNumber,
        member: MemberId,
        topic_name: &str,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some(topic) = self.topics.get_mut(topic_name) else {
            return Ok(());
        };
        let held: Vec<Box<str>> = topic
            .channels
            .iter()
            .filter(|(_, claims)| claims.contains(number, member))
            .map(|(name, _)| name.clone())
            .collect();
        let released = topic.claims.remove(number, member);
        let untombstoned = if topic.claims.has_producer(number) {
            None
        } else {
            topic.tombstones.remove(&number)
        };
        let last_claim_gone = topic.claims.is_empty();
        for channel in held {
            self.release_channel(number, member, topic_name, &channel, log)?;
        }
        if released {
            self.claim_count -= 1;
            log.remove(&claim_row(topic_name, "", number, member))?;
            if let Some(attachment) = self.attachment_mut(number, member) {
                attachment.topics.remove(topic_name);
            }
        }
        if let Some(at) = untombstoned {
            log.remove(&Row::Tombstone(topic_name.into(), number, at))?;
        }
        if last_claim_gone && crate::registration::is_ephemeral(topic_name) {
            self.delete_topic(topic_name, log)?;
        }
        Ok(())
    }

    fn set_active(
        &mut self,
        member: MemberId,
        session: SessionId,
        active: bool,
        log: &mut RowLog,
    ) -> Result<std::result::Result<(), Refusal>> {
        let number = self.attached(member, session);
        let found = number.and_then(|number| Some((number, self.attachment_mut(number, member)?)));
        let Some((number, attachment)) = found else {
            return Ok(Err(Refusal::NotAttached));
        };
        let old = attachment.row.clone();
        attachment.row.active = active;
        let new = attachment.row.clone();
        log.replace(
            &Row::Attachment(number, member, old),
            &Row::Attachment(number, member, new),
        )?;
        Ok(Ok(()))
    }

    /// Returns the topic's shared name.
    fn create_topic(&mut self, name: &str, log: &mut RowLog) -> Result<Arc<str>> {
        if let Some((shared, _)) = self.topics.get_key_value(name) {
            return Ok(shared.clone());
        }
        let shared: Arc<str> = name.into();
        log.insert(&Row::Topic(name.into()))?;
        self.topics.insert(shared.clone(), Topic::default());
        Ok(shared)
    }

    fn create_channel(&mut self, topic: &str, channel: &str, log: &mut RowLog) -> Result<()> {
        let name = self.create_topic(topic, log)?;
        let entry = self.topics.entry(name).or_default();
        entry.create_channel(topic, channel, log)
    }

    fn delete_topic(&mut self, name: &str, log: &mut RowLog) -> Result<()> {
        let Some(topic) = self.topics.remove(name) else {
            return Ok(());
        };
        for (channel, claims) in &topic.channels {
            self.drop_claims(name, channel, claims, log)?;
            log.remove(&channel_row(name, channel))?;
        }
        self.drop_claims(name, "", &topic.claims, log)?;
        for (number, member) in topic.claims.iter() {
            if let Some(attachment) = self.attachment_mut(number, member) {
                attachment.topics.remove(name);
            }
        }
        for (number, at) in topic.tombstones {
            log.remove(&Row::Tombstone(name.into(), number, at))?;
        }
        log.remove(&Row::Topic(name.into()))
    }

    fn delete_channel(
        &mut self,
        topic: &str,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<std::result::Result<(), Refusal>> {
        let channels = self.topics.get_mut(topic).map(|topic| &mut topic.channels);
        let Some(claims) = channels.and_then(|channels| channels.remove(channel)) else {
            return Ok(Err(Refusal::ChannelNotFound));
        };
        self.drop_claims(topic, channel, &claims, log)?;
        log.remove(&channel_row(topic, channel))?;
        Ok(Ok(()))
    }

    fn tombstone(
        &mut self,
        topic_name: &str,
        node: &str,
        at: UnixMillis,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some(topic) = self.topics.get_mut(topic_name) else {
            return Ok(());
        };
        for number in topic.claims.producers() {
            let matches = self
                .producers
                .get(&number)
                .is_some_and(|producer| producer.is_node(node));
            if !matches {
                continue;
            }
            let row = Row::Tombstone(topic_name.into(), number, at);
            match topic.tombstones.insert(number, at) {
                Some(old) => {
                    log.replace(&Row::Tombstone(topic_name.into(), number, old), &row)?;
                }
                None => log.insert(&row)?,
            }
        }
        Ok(())
    }

    fn change_member(
        &mut self,
        member: MemberId,
        log: &mut RowLog,
        change: impl FnOnce(&mut MemberRow),
    ) -> Result<()> {
        let row = self.members.entry(member).or_default();
        let old = row.clone();
        change(row);
        let new = row.clone();
        // A member that nothing is known of has no row.
        let nothing = MemberRow::default();
        let stored = |row: MemberRow| Row::Member(member, row);
        match (old == nothing, new == nothing) {
            (true, true) => Ok(()),
            (true, false) => log.insert(&stored(new)),
            (false, true) => log.remove(&stored(old)),
            (false, false) => log.replace(&stored(old), &stored(new)),
        }
    }

    fn drop_claims(
        &mut self,
        topic: &str,
        channel: &str,
        claims: &ClaimSet,
        log: &mut RowLog,
    ) -> Result<()> {
        for (number, member) in claims.iter() {
            self.claim_count -= 1;
            log.remove(&claim_row(topic, channel, number, member))?;
        }
        Ok(())
    }

    /// Whose session it is; `None` if it has no attachment, or none any more.
    fn attached(&self, member: MemberId, session: SessionId) -> Option<ProducerNumber> {
        self.sessions.get(&(member, session)).copied()
    }

    fn attachment_mut(
        &mut self,
        number: ProducerNumber,
        member: MemberId,
    ) -> Option<&mut Attachment> {
        self.producers
            .get_mut(&number)?
            .attachments
            .get_mut(&member)
    }

    fn smallest_free_number(&self) -> ProducerNumber {
        (0..)
            .zip(self.producers.keys())
            .find(|(free, taken)| free != *taken)
            .map_or(self.producers.len() as ProducerNumber, |(free, _)| free)
    }
}

impl Producer {
    fn new(id: ProducerId) -> Self {
        Producer {
            id,
            attachments: BTreeMap::new(),
        }
    }

    /// Upstream's form in tombstone requests: `broadcast_address:http_port`.
    fn is_node(&self, node: &str) -> bool {
        let port = node
            .strip_prefix(self.id.broadcast_address.as_str())
            .and_then(|rest| rest.strip_prefix(':'));
        port.is_some_and(|port| {
            self.attachments
                .values()
                .any(|attachment| attachment.row.info.http_port.to_string() == port)
        })
    }
}

impl Topic {
    /// The topic's name is for the log.
    fn create_channel(&mut self, name: &str, channel: &str, log: &mut RowLog) -> Result<()> {
        if !self.channels.contains_key(channel) {
            log.insert(&channel_row(name, channel))?;
            self.channels.insert(channel.into(), ClaimSet::default());
        }
        Ok(())
    }
}

impl Attachment {
    fn new(row: AttachmentRow) -> Self {
        Attachment {
            row,
            topics: BTreeSet::new(),
        }
    }
}

fn claim_row(topic: &str, channel: &str, number: ProducerNumber, member: MemberId) -> Row {
    Row::Claim(topic.into(), channel.into(), number, member)
}

fn channel_row(topic: &str, channel: &str) -> Row {
    Row::Channel(topic.into(), channel.into())
}
