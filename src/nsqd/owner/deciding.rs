//! Handles the outcome of a batch: what is committed, refused, applied here.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::storage::event::Refusal;
use raftlookupd_raft::storage::registration::ProducerId;
use raftlookupd_raft::storage::registration_db::{Name, Note, RegistrationDb};

use super::fact::Fact;
use super::now::Now;
use super::producer::Withdrawn;
use super::state::Owner;

/// The time before a refused change is retried.
const AGAIN: Duration = Duration::from_secs(1);

impl Owner {
    /// Answers the commands of a committed batch.
    pub fn committed(&mut self, sequence: u64, refused: &[(u32, Refusal)]) {
        let Some(flight) = self
            .flights
            .iter()
            .find(|flight| flight.sequence == sequence)
        else {
            return;
        };
        let is_refused = |position: usize| {
            refused
                .iter()
                .any(|(refused, _)| usize::try_from(*refused).is_ok_and(|at| at == position))
        };
        let decided: Vec<Fact> = flight
            .facts
            .iter()
            .enumerate()
            .filter(|(position, _)| !is_refused(flight.first + *position))
            .map(|(_, fact)| fact.clone())
            .collect();
        let registers = flight.registers;
        self.committed += 1;
        for fact in decided {
            self.answer_decided(&fact, registers);
        }
    }

    /// Entries were applied; `notes` is what they mean for this member, `db` the registry after them.
    pub fn applied(&mut self, now: Now, notes: Vec<Note>, db: &RegistrationDb) {
        self.now = now;
        for note in notes {
            match note {
                Note::Batch {
                    incarnation,
                    sequence,
                    refused,
                } => {
                    if self.is(incarnation) {
                        self.batch_applied(sequence, &refused, db);
                    }
                }
                Note::Deleted {
                    topic,
                    channel,
                    holders,
                } => self.deleted(&topic, channel.as_ref(), holders),
                Note::Taken { producer, name } => self.taken(producer, name),
            }
        }
    }

    fn batch_applied(&mut self, sequence: u64, refused: &[(u32, Refusal)], db: &RegistrationDb) {
        self.committed(sequence, refused);
        let Some(position) = self
            .flights
            .iter()
            .position(|flight| flight.sequence == sequence)
        else {
            return;
        };
        let Some(flight) = self.flights.remove(position) else {
            return;
        };
        let positions = refused.iter();
        let positions = positions.filter_map(|(position, _)| usize::try_from(*position).ok());
        let mut refused = positions.skip_while(|at| *at < flight.first).peekable();
        let mut last: Option<Arc<ProducerId>> = None;
        for (position, fact) in (flight.first..).zip(flight.facts) {
            let is_refused = refused.next_if_eq(&position).is_some();
            let id = fact.producer().clone();
            self.fact_applied(fact, is_refused, flight.registers, db);
            if last.as_ref().is_some_and(|last| *last != id) {
                self.facts_applied(last.take());
            }
            last = Some(id);
        }
        self.facts_applied(last);
        for (id, name) in flight.unconfirmed {
            self.recorded_already(&id, name, flight.registers, db);
        }
    }

    /// A name was recorded when the batch was made that is now applied: if it still is, REGISTERs up
    /// to this one are confirmed.
    fn recorded_already(
        &mut self,
        id: &Arc<ProducerId>,
        name: Name,
        registers: u64,
        db: &RegistrationDb,
    ) {
        let (Some(me), Some(producer)) = (self.me, self.producers.get(id)) else {
            return;
        };
        let (topic, channel) = (&name.0, name.1.as_deref());
        let is_recorded = db.is_recorded(me.member, id, topic, channel);
        match is_recorded && !producer.undecided.has(&name) {
            true => self.proven(id, name, registers),
            false => self.register_unconfirmed(id, name),
        }
    }

    /// All facts of the producer in the batch are applied.
    fn facts_applied(&mut self, id: Option<Arc<ProducerId>>) {
        let Some(id) = id else {
            return;
        };
        let Some(producer) = self.producers.get_mut(&id) else {
            return;
        };
        producer.unblock();
        if producer.not_before.is_none() {
            self.wake(&id);
        }
        self.resolve_ended(&id);
    }

    fn fact_applied(&mut self, fact: Fact, is_refused: bool, registers: u64, db: &RegistrationDb) {
        let id = fact.producer().clone();
        let (Some(producer), Some(me)) = (self.producers.get_mut(&id), self.me) else {
            return;
        };
        let recorded = db.recorded(me.member, &id);
        let mut disagrees = false;
        match fact {
            Fact::Attached(_) => {
                producer.undecided.attachment = false;
                disagrees = recorded.is_none_or(|known| known.incarnation != me.incarnation);
            }
            Fact::Detached(_) => {
                producer.undecided.attachment = false;
                disagrees = recorded.is_some();
            }
            Fact::Active(_, active) => {
                producer.undecided.activity = false;
                producer.is_active = active;
                disagrees = recorded.is_some_and(|known| known.active != active);
            }
            Fact::Claimed(_, name) => {
                producer.undecided.names.remove(&name);
                match is_refused {
                    true => {
                        disagrees = true;
                        producer.registered.insert(name);
                        producer.start_review();
                    }
                    false => self.claimed(&id, name, registers, db),
                }
            }
            Fact::Released(_, (topic, None)) => {
                producer.undecided.topics.remove(&topic);
            }
            Fact::Released(_, name) => {
                producer.undecided.names.remove(&name);
            }
        }
        if disagrees && let Some(producer) = self.producers.get_mut(&id) {
            // Retried, but not at once: what undid it may do so every time.
            producer.not_before = Some(self.now.moment + AGAIN);
        }
    }

    fn claimed(&mut self, id: &Arc<ProducerId>, name: Name, registers: u64, db: &RegistrationDb) {
        let name = db.shared_name(&name.0, name.1.as_deref()).unwrap_or(name);
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        let sessions = producer.sessions.clone();
        let mut is_wanted = false;
        for session in sessions {
            let wants = self
                .sessions
                .get(&session)
                .is_some_and(|session| session.claims.contains(&name.0, name.1.as_deref()));
            if wants {
                is_wanted = true;
                self.account(session, |session| session.confirm(&name, registers));
            }
        }
        self.register_unconfirmed(id, name.clone());
        let (Some(producer), Some(me)) = (self.producers.get_mut(id), self.me) else {
            return;
        };
        if !is_wanted {
            // Its session has ended.
            producer.withdrawn.push_back(Withdrawn {
                spoken: false,
                ..Withdrawn::spoken(&name)
            });
        } else if !db.is_recorded(me.member, id, &name.0, name.1.as_deref()) {
            // Deleted right after it.
            producer.registered.insert(name);
        }
    }
}
