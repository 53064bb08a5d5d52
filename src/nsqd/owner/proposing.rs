//! Makes the next batch: what is wanted but not recorded, and recorded but not wanted.

use std::sync::Arc;

use raftlookupd_raft::owner::Room;
use raftlookupd_raft::storage::event::Event;
use raftlookupd_raft::storage::registration::ProducerId;
use raftlookupd_raft::storage::registration_db::{Name, RegistrationDb};

use super::effects::{Effect, Verdict};
use super::fact::Fact;
use super::ids::Ticket;
use super::now::Now;
use super::reconcile::{Found, Reconciler};
use super::state::{Flight, MOST_FLIGHTS, Me, Owner};

/// Changes of one producer in a batch before others have their turn.
const TURN: usize = 64;

/// The limit of names looked at for one batch.
const LOOKS: usize = 1024;

/// The size of an event without its names.
const EVENT_BYTES: usize = 64;

/// A batch in the making.
struct Draft<'a> {
    db: &'a RegistrationDb,
    room: Room,
    me: Me,
    events: Vec<Event>,
    facts: Vec<Fact>,
    bytes: usize,
    /// Names that may still be looked at.
    looks: usize,
    /// Commands that wait for what turned out to be done already.
    done: Vec<Ticket>,
    /// Those that need a barrier.
    unproven: Vec<Ticket>,
    /// Names that are recorded already, and whose REGISTERs the batch confirms.
    unconfirmed: Vec<(Arc<ProducerId>, Name)>,
}

impl Draft<'_> {
    fn has_room(&self) -> bool {
        self.events.len() < self.room.events && self.bytes < self.room.bytes
    }
}

impl Owner {
    /// The events of the batch with this sequence number.
    pub fn propose(
        &mut self,
        now: Now,
        sequence: u64,
        room: Room,
        db: &RegistrationDb,
    ) -> Vec<Event> {
        self.now = now;
        let Some(me) = self.me else {
            return Vec::new();
        };
        let mut draft = Draft {
            db,
            room,
            me,
            events: Vec::new(),
            facts: Vec::new(),
            bytes: 0,
            looks: LOOKS,
            done: Vec::new(),
            unproven: Vec::new(),
            unconfirmed: Vec::new(),
        };
        while self.flights.len() < MOST_FLIGHTS
            && draft.has_room()
            && draft.looks > 0
            && let Some(id) = self.ready.pop_front()
        {
            self.take_turn(&id, &mut draft);
        }
        for ticket in std::mem::take(&mut draft.done) {
            self.answer(ticket, Verdict::Done);
        }
        for ticket in std::mem::take(&mut draft.unproven) {
            if self.tickets.contains_key(&ticket) {
                self.effects.push(Effect::Answer(ticket, Verdict::Confirm));
            }
        }
        if draft.events.is_empty() {
            self.repeat_one(&mut draft);
        }
        if !draft.facts.is_empty() {
            self.flights.push_back(Flight {
                sequence,
                first: room.first,
                facts: draft.facts,
                registers: self.registers,
                unconfirmed: draft.unconfirmed,
            });
        }
        draft.events
    }

    /// Adds what one producer is missing, as far as its turn goes.
    fn take_turn(&mut self, id: &Arc<ProducerId>, draft: &mut Draft<'_>) {
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        producer.is_ready = false;
        if producer.not_before.is_some_and(|at| at > self.now.moment) {
            return;
        }
        let mut reconciler = Reconciler {
            id,
            producer,
            sessions: &self.sessions,
            db: draft.db,
            member: draft.me.member,
            incarnation: draft.me.incarnation,
            now: self.now.moment,
            timeout: self.settings.inactive_producer_timeout,
            clock: self.now.clock,
            looks: &mut draft.looks,
            done: &mut draft.done,
            unproven: &mut draft.unproven,
            unconfirmed: &mut draft.unconfirmed,
            repairs: &mut self.repairs,
        };
        let mut more = true;
        for _ in 0..TURN {
            if draft.events.len() >= draft.room.events || draft.bytes >= draft.room.bytes {
                break;
            }
            match reconciler.next() {
                Found::Change(event, fact) => {
                    draft.bytes += size_of(&event);
                    draft.events.push(*event);
                    draft.facts.push(fact);
                }
                Found::Nothing => {
                    more = false;
                    break;
                }
                Found::Pause => break,
            }
        }
        match more {
            true => self.wake(id),
            false => self.forget_if_idle(id),
        }
    }

    /// Records one name once more, so that there is a batch that can confirm its REGISTER.
    fn repeat_one(&mut self, draft: &mut Draft<'_>) {
        let Some((id, name)) = draft.unconfirmed.first() else {
            return;
        };
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        producer.undecided.names.insert(name.clone());
        draft.events.push(Event::Claim {
            producer: (**id).clone(),
            topic: name.0.to_string(),
            channel: name.1.as_deref().map(String::from),
        });
        draft.facts.push(Fact::Claimed(id.clone(), name.clone()));
    }
}

/// The approximate size of an event.
fn size_of(event: &Event) -> usize {
    let (producer, names) = match event {
        Event::Attach {
            producer,
            remote_address,
            info,
            ..
        } => {
            let texts = [
                remote_address,
                &info.hostname,
                &info.version,
                &info.topology_zone,
                &info.topology_region,
            ];
            (producer, texts.into_iter().map(String::len).sum())
        }
        Event::Claim {
            producer,
            topic,
            channel,
        }
        | Event::Release {
            producer,
            topic,
            channel,
        } => (
            producer,
            topic.len() + channel.as_ref().map_or(0, String::len),
        ),
        Event::Detach { producer, .. } | Event::SetActive { producer, .. } => (producer, 0),
        // The owner proposes no other events.
        _ => return EVENT_BYTES,
    };
    producer.broadcast_address.len() + names + EVENT_BYTES
}
