//! Answers commands whose change is already recorded, once a barrier has proven it.

use std::sync::Arc;

use raftlookupd_raft::storage::registration::ProducerId;
use raftlookupd_raft::storage::registration_db::{Name, RegistrationDb};

use super::effects::{CloseReason, Reply, Verdict};
use super::ids::{SessionId, Ticket};
use super::now::Now;
use super::producer::{MOST_LISTED, Want, Withdrawn};
use super::state::{Owner, Waiting};

impl Owner {
    /// The barrier of a [`Reply::Confirm`] has passed.
    pub fn confirm(&mut self, now: Now, ticket: Ticket, db: &RegistrationDb) -> Reply {
        self.now = now;
        let Some(waiting) = self.tickets.remove(&ticket) else {
            return Reply::Now(Verdict::Unavailable);
        };
        let Waiting {
            session,
            producer: id,
            want,
            registers,
        } = waiting;
        match want {
            Want::Claim(name) => {
                if self.is_settled(&id, &name, Some(db)) {
                    self.proven(&id, name, registers);
                    self.is_in_time(session);
                    return Reply::Now(Verdict::Done);
                }
                if let Some(producer) = self.producers.get_mut(&id) {
                    producer.registered.insert(name.clone());
                }
                self.wake(&id);
                let patience = self.patience(session);
                self.wait_for(session, &id, Want::Claim(name), true, patience)
            }
            Want::Release(name) => match self.needs_release(&id, &name, Some(db)) {
                true => {
                    let withdrawn = Withdrawn::spoken(&name);
                    self.release(session, &id, name, withdrawn, true)
                }
                false => {
                    self.is_in_time(session);
                    Reply::Now(Verdict::Done)
                }
            },
            Want::Attached | Want::Active | Want::Ended => Reply::Now(Verdict::Done),
        }
    }

    fn is_in_time(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.late = None;
        }
    }

    /// Whether the claim is recorded, and no change of it or of its attachment is undecided.
    pub(super) fn is_settled(
        &self,
        id: &Arc<ProducerId>,
        name: &Name,
        db: Option<&RegistrationDb>,
    ) -> bool {
        let (Some(me), Some(db), Some(producer)) = (self.me, db, self.producers.get(id)) else {
            return false;
        };
        let attached = db.recorded(me.member, id);
        attached.is_some_and(|attached| attached.incarnation == me.incarnation)
            && !producer.undecided.attachment
            && !producer.undecided.has(name)
            && db.is_recorded(me.member, id, &name.0, name.1.as_deref())
    }

    /// Whether an UNREGISTER may change something.
    pub(super) fn needs_release(
        &self,
        id: &Arc<ProducerId>,
        name: &Name,
        db: Option<&RegistrationDb>,
    ) -> bool {
        let (topic, channel) = (&name.0, name.1.as_deref());
        let (Some(producer), Some((me, db))) = (self.producers.get(id), self.me.zip(db)) else {
            return true;
        };
        let is_wanted = producer.sessions.iter().any(|session| {
            let session = self.sessions.get(session);
            session.is_some_and(|session| session.claims.contains(topic, channel))
        });
        let is_open = match &name.1 {
            // A claim of a channel that is on its way brings the topic.
            None => producer.undecided.has_below(&name.0),
            Some(_) => producer.undecided.has(name),
        };
        let is_open = is_open || producer.undecided.attachment;
        !is_wanted
            && (is_open
                || db.is_recorded(me.member, id, topic, channel)
                || db.release_matters(me.member, id, topic, channel))
    }

    pub(super) fn release(
        &mut self,
        session: SessionId,
        id: &Arc<ProducerId>,
        name: Name,
        withdrawn: Withdrawn,
        can_commit: bool,
    ) -> Reply {
        if let Some(producer) = self.producers.get_mut(id) {
            producer.withdrawn.push_back(withdrawn);
            if producer.withdrawn.len() > MOST_LISTED {
                self.end(session, CloseReason::TooMuchUndecided);
                return Reply::Now(Verdict::Unavailable);
            }
        }
        self.wake(id);
        let patience = self.patience(session);
        self.wait_for(session, id, Want::Release(name), can_commit, patience)
    }

    /// Confirms REGISTERs of a name up to this one.
    pub(super) fn proven(&mut self, id: &Arc<ProducerId>, name: Name, registers: u64) {
        let sessions = self
            .producers
            .get(id)
            .map(|producer| producer.sessions.clone());
        for session in sessions.into_iter().flatten() {
            self.account(session, |session| session.confirm(&name, registers));
        }
        self.register_unconfirmed(id, name);
    }

    /// Compares a name again as long as a REGISTER of it is not confirmed.
    pub(super) fn register_unconfirmed(&mut self, id: &Arc<ProducerId>, name: Name) {
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        let mut sessions = producer.sessions.iter();
        let is_unconfirmed = sessions.any(|session| {
            let session = self.sessions.get(session);
            session.is_some_and(|session| session.is_unconfirmed(&name))
        });
        if is_unconfirmed {
            producer.registered.insert(name);
            self.wake(id);
        }
    }
}
