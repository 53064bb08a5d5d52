//! Compares what the open sessions of one producer want with what the registry records for it at this
//! member, and returns the next missing change. PURE.
//!
//! At most one change of a fact is undecided; others of that fact wait until it is applied here. Claims
//! wait for their attachment.

use std::collections::BTreeMap;
use std::sync::Arc;

use raftlookupd_raft::storage::event::Event;
use raftlookupd_raft::storage::registration::{MemberId, ProducerId, UnixMillis};
use raftlookupd_raft::storage::registration_db::{Name, RegistrationDb};

use super::fact::Fact;
use super::ids::{SessionId, Ticket};
use super::now::Moment;
use super::producer::{Producer, Want, Withdrawn};
use super::session::Session;

/// The result of a step of the reconciler.
pub(super) enum Found {
    /// This change is missing.
    Change(Box<Event>, Fact),
    /// Nothing is missing, for now.
    Nothing,
    /// The limit of names for this batch is reached.
    Pause,
}

/// One producer, and everything that it is compared with.
pub(super) struct Reconciler<'a> {
    pub(super) id: &'a Arc<ProducerId>,
    pub(super) producer: &'a mut Producer,
    pub(super) sessions: &'a BTreeMap<SessionId, Session>,
    pub(super) db: &'a RegistrationDb,
    pub(super) member: MemberId,
    pub(super) incarnation: u64,
    pub(super) now: Moment,
    pub(super) timeout: Moment,
    pub(super) clock: UnixMillis,
    /// Names that may still be looked at for this batch.
    pub(super) looks: &'a mut usize,
    /// Commands that turned out to be done already, or to need a barrier.
    pub(super) done: &'a mut Vec<Ticket>,
    pub(super) unproven: &'a mut Vec<Ticket>,
    /// Recorded names whose REGISTERs are unconfirmed although no command waits for them.
    pub(super) unconfirmed: &'a mut Vec<(Arc<ProducerId>, Name)>,
    /// Differences that routine checks have found.
    pub(super) repairs: &'a mut u64,
}

impl Reconciler<'_> {
    /// The next change that is missing.
    pub(super) fn next(&mut self) -> Found {
        if self.producer.undecided.attachment {
            return Found::Nothing;
        }
        let recorded = self.db.recorded(self.member, self.id);
        let newest = self.producer.sessions.last();
        let newest = newest.and_then(|newest| self.sessions.get(newest));
        match (newest, recorded) {
            (Some(newest), recorded)
                if recorded.is_none_or(|known| known.incarnation < self.incarnation) =>
            {
                if self.producer.all_taken {
                    return Found::Nothing;
                }
                if recorded.is_none() {
                    // Earlier incarnations left nothing.
                    self.producer.inherits_until = None;
                    self.producer.is_reconnecting = false;
                }
                self.attach(newest)
            }
            (None, None) => {
                self.forget();
                Found::Nothing
            }
            (None, Some(_)) if self.producer.inherits_until.is_none() => self.detach(),
            (newest, Some(recorded)) => {
                let waiting = self.producer.waiters.remove(&Want::Attached);
                self.done.extend(waiting.into_iter().flatten());
                let active = self.producer.sessions.is_empty() || self.is_heard();
                if newest.is_some()
                    && recorded.active != active
                    && !self.producer.undecided.activity
                {
                    return self.set_active(active);
                }
                self.next_name()
            }
            (Some(_), None) => Found::Nothing,
        }
    }

    fn next_name(&mut self) -> Found {
        loop {
            if *self.looks == 0 {
                return Found::Pause;
            }
            *self.looks -= 1;
            let found = if let Some(withdrawn) = self.producer.withdrawn.pop_front() {
                self.withdraw(withdrawn)
            } else if let Some(name) = self.producer.registered.pop_first() {
                self.register(name)
            } else if let Some(review) = self.producer.review.take() {
                self.review(review);
                None
            } else {
                return Found::Nothing;
            };
            if let Some((event, fact)) = found {
                return Found::Change(Box::new(event), fact);
            }
        }
    }

    fn register(&mut self, name: Name) -> Option<(Event, Fact)> {
        if self.producer.undecided.has(&name) {
            self.producer.blocked.registered.insert(name);
            return None;
        }
        if !self.is_wanted(&name) {
            return None;
        }
        if self.is_recorded(&name) {
            // By an earlier incarnation, or for another session; only a barrier proves that it is current.
            match self.producer.waiters.remove(&Want::Claim(name.clone())) {
                Some(waiting) => self.unproven.extend(waiting),
                None if self.is_unconfirmed(&name) => {
                    self.unconfirmed.push((self.id.clone(), name));
                }
                None => {}
            }
            return None;
        }
        self.producer.undecided.names.insert(name.clone());
        let event = Event::Claim {
            producer: (**self.id).clone(),
            topic: name.0.to_string(),
            channel: name.1.as_deref().map(String::from),
        };
        Some((event, Fact::Claimed(self.id.clone(), name)))
    }

    fn withdraw(&mut self, mut withdrawn: Withdrawn) -> Option<(Event, Fact)> {
        let topic = withdrawn.topic.clone();
        if withdrawn.whole {
            if self.producer.undecided.has_below(&topic) {
                self.producer.blocked.withdrawn.push(withdrawn);
                return None;
            }
            let name = (topic.clone(), None);
            if !self.is_wanted(&name) {
                return self.release(name, withdrawn.spoken);
            }
            // Another session has the topic, but perhaps not all of these channels.
            withdrawn.whole = false;
            match withdrawn.channels.last() {
                Some(last) => self.answer_with(&name, (topic.clone(), Some(last.clone()))),
                None => self.resolve_release(&name),
            }
        }
        let channel = withdrawn.channels.pop_first()?;
        let spoken = withdrawn.spoken;
        if !withdrawn.channels.is_empty() {
            self.producer.withdrawn.push_front(withdrawn);
        }
        let name = (topic, Some(channel));
        if self.producer.undecided.has(&name) {
            let mut blocked = Withdrawn::spoken(&name);
            blocked.spoken = spoken;
            self.producer.blocked.withdrawn.push(blocked);
            return None;
        }
        if self.is_wanted(&name) {
            self.resolve_release(&name);
            return None;
        }
        self.release(name, spoken)
    }

    fn release(&mut self, name: Name, spoken: bool) -> Option<(Event, Fact)> {
        if !spoken && self.is_inherited() {
            return None;
        }
        let matters_elsewhere = || {
            let (topic, channel) = (&name.0, name.1.as_deref());
            self.db
                .release_matters(self.member, self.id, topic, channel)
        };
        let matters = self.is_recorded(&name) || (spoken && matters_elsewhere());
        if !matters {
            self.resolve_release(&name);
            return None;
        }
        match &name.1 {
            None => self.producer.undecided.topics.insert(name.0.clone()),
            Some(_) => self.producer.undecided.names.insert(name.clone()),
        };
        let event = Event::Release {
            producer: (**self.id).clone(),
            topic: name.0.to_string(),
            channel: name.1.as_deref().map(String::from),
        };
        Some((event, Fact::Released(self.id.clone(), name)))
    }

    fn attach(&mut self, newest: &Session) -> Found {
        self.producer.undecided.attachment = true;
        self.producer.is_active = true;
        let event = Event::Attach {
            producer: (**self.id).clone(),
            remote_address: newest.remote_address.clone(),
            info: newest.info.clone(),
            at: newest.at,
        };
        Found::Change(Box::new(event), Fact::Attached(self.id.clone()))
    }

    fn detach(&mut self) -> Found {
        self.forget();
        self.producer.undecided.attachment = true;
        let event = Event::Detach {
            producer: (**self.id).clone(),
            at: match self.producer.ended {
                0 => self.clock,
                ended => ended,
            },
        };
        Found::Change(Box::new(event), Fact::Detached(self.id.clone()))
    }

    fn set_active(&mut self, active: bool) -> Found {
        self.producer.undecided.activity = true;
        self.producer.is_active = active;
        let producer = (**self.id).clone();
        let event = Event::SetActive { producer, active };
        Found::Change(Box::new(event), Fact::Active(self.id.clone(), active))
    }

    /// Forgets what was to be compared: there is no session or no attachment.
    fn forget(&mut self) {
        self.producer.withdrawn.clear();
        self.producer.registered.clear();
        self.producer.review = None;
        self.producer.taken.clear();
        self.producer.all_taken = false;
        if !self.producer.undecided.attachment && self.db.recorded(self.member, self.id).is_none() {
            let waiting = self.producer.waiters.remove(&Want::Ended);
            self.done.extend(waiting.into_iter().flatten());
        }
    }

    /// Has those who wait for the release of a name wait for that of another.
    fn answer_with(&mut self, name: &Name, other: Name) {
        let waiting = self.producer.waiters.remove(&Want::Release(name.clone()));
        if let Some(waiting) = waiting {
            let others = self.producer.waiters.entry(Want::Release(other));
            others.or_default().extend(waiting);
        }
    }

    fn resolve_release(&mut self, name: &Name) {
        let waiting = self.producer.waiters.remove(&Want::Release(name.clone()));
        self.done.extend(waiting.into_iter().flatten());
    }

    /// Whether an open session has registered the name.
    pub(super) fn is_wanted(&self, (topic, channel): &Name) -> bool {
        let sessions = self.producer.sessions.iter();
        let mut sessions = sessions.filter_map(|session| self.sessions.get(session));
        sessions.any(|session| session.claims.contains(topic, channel.as_deref()))
    }

    /// Whether an open session's REGISTER of the name is unconfirmed.
    fn is_unconfirmed(&self, name: &Name) -> bool {
        let sessions = self.producer.sessions.iter();
        let mut sessions = sessions.filter_map(|session| self.sessions.get(session));
        sessions.any(|session| session.is_unconfirmed(name))
    }

    pub(super) fn is_recorded(&self, (topic, channel): &Name) -> bool {
        let (topic, channel) = (topic, channel.as_deref());
        self.db.is_recorded(self.member, self.id, topic, channel)
    }

    /// Whether claims that are recorded but not wanted are kept: the nsqd may still register them.
    pub(super) fn is_inherited(&self) -> bool {
        self.producer.inherits_until.is_some()
    }

    fn is_heard(&self) -> bool {
        let sessions = self.producer.sessions.iter();
        let mut sessions = sessions.filter_map(|session| self.sessions.get(session));
        sessions.any(|session| self.now.saturating_sub(session.heard) <= self.timeout)
    }
}
