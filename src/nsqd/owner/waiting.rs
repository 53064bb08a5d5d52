//! Makes commands wait, and answers them when they are decided or overdue.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::storage::registration::ProducerId;

use super::effects::{Effect, Reply, Verdict};
use super::fact::Fact;
use super::ids::{SessionId, Ticket};
use super::producer::{Producer, Want};
use super::state::{Owner, Waiting};

impl Owner {
    pub(super) fn wait(
        &mut self,
        session: SessionId,
        want: Want,
        can_commit: bool,
        patience: Duration,
    ) -> Reply {
        let id = self
            .sessions
            .get(&session)
            .map(|session| session.producer.clone());
        match id {
            Some(id) => self.wait_for(session, &id, want, can_commit, patience),
            None => Reply::Now(Verdict::Unavailable),
        }
    }

    pub(super) fn wait_for(
        &mut self,
        session: SessionId,
        id: &Arc<ProducerId>,
        want: Want,
        can_commit: bool,
        patience: Duration,
    ) -> Reply {
        if !can_commit {
            let in_any_case = matches!(want, Want::Attached | Want::Active | Want::Ended);
            if !in_any_case {
                self.is_late(session);
            }
            return Reply::Now(match in_any_case {
                true => Verdict::Done,
                false => Verdict::Unavailable,
            });
        }
        let ticket = self.ticket(session, id, want.clone());
        if let Some(producer) = self.producers.get_mut(id) {
            producer.waiters.entry(want).or_default().push(ticket);
        }
        Reply::Wait(ticket, patience)
    }

    pub(super) fn ticket(
        &mut self,
        session: SessionId,
        id: &Arc<ProducerId>,
        want: Want,
    ) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let waiting = Waiting {
            session,
            producer: id.clone(),
            want,
            registers: self.registers,
        };
        self.tickets.insert(ticket, waiting);
        ticket
    }

    pub(super) fn patience(&self, session: SessionId) -> Duration {
        let late = self.sessions.get(&session).and_then(|session| session.late);
        // Once a batch is committed, others will be, too.
        match late == Some(self.committed) {
            true => self.settings.patience_when_late,
            false => self.settings.patience,
        }
    }

    /// A command was not decided in time. Returns its answer.
    pub fn expire(&mut self, ticket: Ticket) -> Verdict {
        let Some(waiting) = self.tickets.remove(&ticket) else {
            return Verdict::Unavailable;
        };
        if let Some(producer) = self.producers.get_mut(&waiting.producer)
            && let Some(others) = producer.waiters.get_mut(&waiting.want)
        {
            others.retain(|other| *other != ticket);
            if others.is_empty() {
                producer.waiters.remove(&waiting.want);
            }
        }
        match waiting.want {
            Want::Claim(name) => {
                if self.is_late(waiting.session) {
                    if let Some(producer) = self.producers.get_mut(&waiting.producer) {
                        producer.registered.insert(name);
                    }
                    self.wake(&waiting.producer);
                }
                Verdict::Unavailable
            }
            Want::Release(_) => {
                self.is_late(waiting.session);
                Verdict::Unavailable
            }
            // These succeed in any case.
            Want::Attached | Want::Active | Want::Ended => Verdict::Done,
        }
    }

    /// A command of the session is answered `E_UNAVAILABLE`. Returns whether the session is open.
    fn is_late(&mut self, session: SessionId) -> bool {
        let committed = self.committed;
        let session = self.sessions.get_mut(&session);
        session
            .map(|session| session.late = Some(committed))
            .is_some()
    }

    pub(super) fn answer(&mut self, ticket: Ticket, verdict: Verdict) {
        let Some(waiting) = self.tickets.remove(&ticket) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&waiting.session) {
            session.late = None;
        }
        self.effects.push(Effect::Answer(ticket, verdict));
    }

    /// Answers commands that wait for a committed fact, except REGISTERs after this one.
    pub(super) fn answer_decided(&mut self, fact: &Fact, registers: u64) {
        let Some(producer) = self.producers.get_mut(fact.producer()) else {
            return;
        };
        let mut tickets = Vec::new();
        let mut take = |want: &Want| tickets.extend(producer.waiters.remove(want));
        match fact {
            Fact::Attached(_) => take(&Want::Attached),
            Fact::Detached(_) => take(&Want::Ended),
            Fact::Active(..) => take(&Want::Active),
            Fact::Claimed(_, name) => take(&Want::Claim(name.clone())),
            Fact::Released(_, name) => take(&Want::Release(name.clone())),
        }
        let mut later = Vec::new();
        for ticket in tickets.into_iter().flatten() {
            let waiting = self.tickets.get(&ticket);
            let is_claim = matches!(fact, Fact::Claimed(..));
            match waiting.is_some_and(|waiting| is_claim && waiting.registers > registers) {
                true => later.push(ticket),
                false => self.answer(ticket, Verdict::Done),
            }
        }
        if let Fact::Claimed(id, name) = fact
            && !later.is_empty()
            && let Some(producer) = self.producers.get_mut(id)
        {
            let waiters = producer.waiters.entry(Want::Claim(name.clone()));
            waiters.or_default().extend(later);
        }
    }

    /// Answers closing sessions once what they left behind is gone.
    pub(super) fn resolve_ended(&mut self, id: &Arc<ProducerId>) {
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        if !producer.has_withdrawn_all() {
            return;
        }
        if producer.sessions.is_empty() && producer.inherits_until.is_none() {
            // Its detach answers.
            return;
        }
        let waiting = producer.waiters.remove(&Want::Ended);
        for ticket in waiting.into_iter().flatten() {
            self.answer(ticket, Verdict::Done);
        }
    }

    pub(super) fn forget_if_idle(&mut self, id: &Arc<ProducerId>) {
        self.resolve_ended(id);
        if self.producers.get(id).is_some_and(Producer::is_idle) {
            self.producers.remove(id);
        }
    }
}
