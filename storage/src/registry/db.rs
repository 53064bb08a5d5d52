//! Applies events to the registry and answers queries about it. PURE.
//!
//! The counterpart of upstream's `registration_db.go`, with all its rules in one place:
//!
//! - A claim of a channel also claims its topic; releasing a topic releases its channels.
//! - A topic or channel stays listed when its last claim is removed; an `#ephemeral` one is removed
//!   with it, whatever removed the claim. (Upstream forgets to on disconnect.)
//! - Deleting a topic or channel removes every claim on it; only a new claim brings it back.
//! - A tombstone belongs to (topic, producer) and ends with the producer's last claim on the topic,
//!   if not before.
//! - Names are literal; `*` is not a wildcard. (Upstream's is: one request wipes everything.)
//!
//! An attachment is *live* until it ends. It is *present* while its member is not away and has
//! recorded it in its newest incarnation; otherwise it is *absent*. An absent one stays listed,
//! since its nsqd is most likely alive, until the nsqd itself, at a present member, or time says
//! otherwise:
//!
//! - a release at a present member also removes the same name from absent attachments, and is
//!   remembered for attachments that turn out to be absent later ([`Event::ExpireName`]);
//! - the end of a session at a present member is remembered, and some time later [`Event::Expire`]
//!   removes the absent attachments, unless the producer attaches again.
//!
//! # Invariants
//! - Deterministic: no clock, no randomness, ordered maps wherever order is visible. Time comes in
//!   events, stamped by the proposer, or as the `now` of a query.
//! - A batch is applied once: the (incarnation, sequence) of a member only ever grows.
//! - Every claim of a channel belongs to a claim of its topic, and that to an attachment.
//! - The work of one step is bounded, whatever the event and however large the topic or session.
//!   What is left over is ignored by queries and removed by [`Event::Sweep`]s.
//! - [`RegistrationDb::state_hash`] is the sum of the hashes of all [rows](crate::registry::rows).

mod absence;
mod applying;
mod attachments;
mod check;
mod claims;
mod deleted;
mod invariant;
mod load;
mod members;
mod names;
mod number_pool;
mod owned;
mod pack;
mod pages;
mod queries;
mod released;
mod row_log;
mod topic;
mod topic_changes;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::registry::event::{Event, Refusal};
use crate::registry::rows::{AttachmentNumber, AttachmentRow, ProducerNumber, ProducerRow};
use crate::registry::values::{MemberId, ProducerId, UnixMillis};
pub use applying::{Applied, Applying, Step};
use deleted::DeletedChannels;
use invariant::present_mut;
pub(crate) use load::{Loader, topic_hash};
use members::Member;
use number_pool::NumberPool;
pub use owned::{Name, Recorded};
pub use pages::{NodePage, ProducerCopy};
pub use queries::{DebugEntry, Lifetimes, NodeView, ProducerView, Totals};
pub use released::{ExpirableName, ReleasedCursor};
use row_log::RowLog;
pub use row_log::{Change, Discarded};
use topic::Topic;

/// Topics, channels and their claims, of the whole cluster.
#[derive(Debug, Default)]
pub struct RegistrationDb {
    members: BTreeMap<MemberId, Member>,
    producers: BTreeMap<ProducerNumber, Producer>,
    numbers: BTreeMap<ProducerId, ProducerNumber>,
    producer_numbers: NumberPool,
    attachments: BTreeMap<AttachmentNumber, Attachment>,
    attachment_numbers: NumberPool,
    /// Attachments that have ended and still have claims to be removed.
    leaving: BTreeSet<AttachmentNumber>,
    /// Claims of topics that are being removed step by step, of attachments that are live.
    releasing: BTreeSet<(Arc<str>, AttachmentNumber)>,
    topics: BTreeMap<Arc<str>, Topic>,
    /// Topics with remembered releases.
    given_up: BTreeSet<Arc<str>>,
    deleted: DeletedChannels,
    channel_count: usize,
    claim_count: usize,
    state_hash: u128,
}

#[derive(Debug)]
struct Producer {
    row: ProducerRow,
    /// The live ones, by member.
    attachments: BTreeMap<MemberId, AttachmentNumber>,
    /// How many have ended and still have claims to be removed.
    leaving: u32,
}

impl Producer {
    fn new(row: ProducerRow) -> Producer {
        Producer {
            row,
            attachments: BTreeMap::new(),
            leaving: 0,
        }
    }
}

#[derive(Debug)]
struct Attachment {
    row: AttachmentRow,
    /// The topics that it claims: the index for /nodes and for its end.
    topics: BTreeSet<Arc<str>>,
}

/// What an applied event means to the member that keeps the sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A batch of the member was applied, with these refusals.
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
        /// The producers whose claims at the member were removed with it.
        holders: Vec<ProducerId>,
    },
    /// An event of another member removed a claim of a producer at this member, or its attachment.
    Taken {
        /// The producer.
        producer: ProducerId,
        /// The name; `None` if the attachment was removed.
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

    /// Applies one event. A refused event changes nothing.
    fn apply_event(&mut self, source: Source, event: &Event, log: &mut RowLog) -> Result<Outcome> {
        match event {
            Event::Attach { .. }
            | Event::Claim { .. }
            | Event::Release { .. }
            | Event::Detach { .. }
            | Event::SetActive { .. } => {
                return match source.origin {
                    Some(origin) => self.apply_session_event(source, origin, event, log),
                    None => Ok(Err(Refusal::NotAttached)),
                };
            }
            Event::CreateTopic { topic } => drop(self.create_topic(topic, log)),
            Event::DeleteTopic { topic } => self.delete_topic(source, topic, log)?,
            Event::CreateChannel { topic, channel } => {
                let name = self.create_topic(topic, log);
                let topic = present_mut(&mut self.topics, &name, "topic")?;
                topic.create_channel(&name, channel, log);
            }
            Event::DeleteChannel { topic, channel } => {
                return self.delete_channel(source, topic, channel, log);
            }
            Event::Tombstone { topic, node, at } => self.tombstone(topic, node, *at, log)?,
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

    /// Applies an event about the sessions of the member that proposed it.
    fn apply_session_event(
        &mut self,
        source: Source,
        origin: Origin,
        event: &Event,
        log: &mut RowLog,
    ) -> Result<Outcome> {
        match event {
            Event::Attach {
                producer,
                remote_address,
                info,
                at,
            } => {
                let row = |producer| AttachmentRow {
                    producer,
                    member: origin.member,
                    incarnation: origin.incarnation,
                    remote_address: remote_address.clone(),
                    info: info.clone(),
                    active: true,
                    at: *at,
                    leaving: false,
                };
                self.attach(producer, origin.member, row, log)?;
            }
            Event::Claim {
                producer,
                topic,
                channel,
            } => {
                return match self.attachment_of(origin.member, producer) {
                    Some(number) => self.claim(number, topic, channel.as_deref(), log),
                    None => Ok(Err(Refusal::NotAttached)),
                };
            }
            Event::Release {
                producer,
                topic,
                channel,
            } => self.release(source, origin, producer, (topic, channel.as_deref()), log)?,
            Event::Detach { producer, at } => self.detach(origin.member, producer, *at, log)?,
            Event::SetActive { producer, active } => {
                let Some(number) = self.attachment_of(origin.member, producer) else {
                    return Ok(Err(Refusal::NotAttached));
                };
                self.change_attachment(number, log, |row| row.active = *active)?;
            }
            other => {
                let what = format!("{other:?} is not an event of a session");
                return Err(Error::invariant(what));
            }
        }
        Ok(Ok(()))
    }
}

/// Whether an event was accepted.
type Outcome = std::result::Result<(), Refusal>;

/// The origin of an event, and the member to notify.
#[derive(Debug, Clone, Copy)]
struct Source {
    /// The batch that carries it; `None` for the leader's own.
    origin: Option<Origin>,
    /// The member for which notes are collected.
    noted: Option<MemberId>,
}

/// The batch that carries an event.
#[derive(Debug, Clone, Copy)]
struct Origin {
    member: MemberId,
    incarnation: u64,
    /// When the batch was made.
    at: UnixMillis,
}

impl Source {
    /// Takes a note, if notes are collected for the member that it is about.
    fn note(self, of: MemberId, log: &mut RowLog, note: impl FnOnce() -> Note) {
        if self.noted == Some(of) {
            log.note(note());
        }
    }

    /// Takes a note, if notes are collected.
    fn note_own(self, log: &mut RowLog, note: impl FnOnce() -> Note) {
        if self.noted.is_some() {
            log.note(note());
        }
    }
}
