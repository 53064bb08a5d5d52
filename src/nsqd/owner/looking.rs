//! Looks at all producers in turn: finds silent and abandoned ones, and checks one each time.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use raftlookupd_raft::storage::registration::ProducerId;
use raftlookupd_raft::storage::registration_db::RegistrationDb;

use super::effects::{CloseReason, Effect};
use super::ids::SessionId;
use super::now::{Now, millis};
use super::producer::{Producer, Review};
use super::session::Session;
use super::state::{Me, Owner};

/// The least number of producers looked at in one tick.
const LOOKED_AT_ONCE: usize = 64;

impl Owner {
    /// Looks at some of the producers; eight calls cover all of them.
    pub fn tick(&mut self, now: Now, db: Option<&RegistrationDb>) {
        self.now = now;
        let some = LOOKED_AT_ONCE.max(self.producers.len() / 8 + 1);
        let from = self.looked_at.clone().map_or(Unbounded, Excluded);
        let producers = self
            .producers
            .range::<Arc<ProducerId>, _>((from, Unbounded));
        let some: Vec<Arc<ProducerId>> = producers.take(some).map(|(id, _)| id.clone()).collect();
        self.looked_at = some.last().cloned();
        for id in some {
            self.forget_in_vain(&id, db);
            self.look_at(&id);
        }
        self.ready.retain(|id| self.producers.contains_key(id));
        if let Some((me, db)) = self.me.zip(db) {
            self.find_abandoned(me, db);
            self.audit();
        }
    }

    fn look_at(&mut self, id: &Arc<ProducerId>) {
        self.close_presumed_dead(id);
        let now = self.now.moment;
        let heard = self.is_heard(id);
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        let mut wakes = producer.not_before.take_if(|at| *at <= now).is_some();
        let has_sessions = !producer.sessions.is_empty();
        if !has_sessions || producer.is_reconnecting {
            let inherits = producer.inherits_until.take_if(|until| *until <= now);
            wakes |= inherits.is_some();
            if inherits.is_some() && std::mem::take(&mut producer.is_reconnecting) {
                producer.start_review();
            }
        }
        if has_sessions && producer.is_active != heard && !producer.undecided.activity {
            if std::mem::replace(&mut producer.logged_inactive, !heard) == heard {
                let active = Effect::Active((**id).clone(), heard);
                self.effects.push(active);
            }
            wakes = true;
        }
        match wakes {
            true => self.wake(id),
            false => self.forget_if_idle(id),
        }
    }

    /// Forgets what ended sessions wanted if nothing of it can be recorded: without a quorum it would
    /// pile up.
    fn forget_in_vain(&mut self, id: &Arc<ProducerId>, db: Option<&RegistrationDb>) {
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        let recorded = |(me, db): (Me, &RegistrationDb)| db.recorded(me.member, id).is_some();
        let is_recorded = self.me.zip(db).is_some_and(recorded);
        if !producer.sessions.is_empty() || !producer.undecided.is_empty() || is_recorded {
            return;
        }
        self.discarded.extend(producer.forget_names());
        producer.inherits_until = None;
        producer.not_before = None;
        producer.is_ready = false;
    }

    /// Closes silent sessions if another one is not silent: nsqd has reconnected.
    fn close_presumed_dead(&mut self, id: &Arc<ProducerId>) {
        let Some(producer) = self
            .producers
            .get(id)
            .filter(|known| known.sessions.len() > 1)
        else {
            return;
        };
        let is_silent = |session: &Session| self.is_silent(session);
        let sessions: Vec<(SessionId, &Session)> = producer
            .sessions
            .iter()
            .filter_map(|session| Some((*session, self.sessions.get(session)?)))
            .collect();
        let alive = sessions
            .iter()
            .any(|(_, session)| session.pinged && !is_silent(session));
        if !alive {
            return;
        }
        let silent = sessions.iter().filter(|(_, session)| is_silent(session));
        let silent: Vec<SessionId> = silent.map(|(id, _)| *id).collect();
        for session in silent {
            self.end(session, CloseReason::PresumedDead);
        }
    }

    fn find_abandoned(&mut self, me: Me, db: &RegistrationDb) {
        // Before the first batch of this incarnation is applied, the clock may not be the cluster's.
        let fenced = db.member(me.member);
        if fenced.is_none_or(|row| row.incarnation != me.incarnation) {
            return;
        }
        let timeout = millis(self.settings.inactive_producer_timeout);
        let Some(until) = self.now.clock.checked_sub(timeout) else {
            return;
        };
        let found = db.abandoned(me.member, me.incarnation, until, LOOKED_AT_ONCE);
        let mut abandoned = 0;
        for id in found {
            let id = self.shared_id(id);
            let producer = self.producers.entry(id.clone());
            let producer = producer.or_insert_with(|| Producer {
                is_active: true,
                ..Producer::default()
            });
            if !producer.sessions.is_empty() || producer.undecided.attachment {
                continue;
            }
            producer.inherits_until = None;
            producer.ended = self.now.clock;
            abandoned += usize::from(!producer.is_ready);
            self.wake(&id);
        }
        if abandoned > 0 {
            self.effects.push(Effect::Abandoned(abandoned));
        }
    }

    /// Compares everything of the next producer, although nothing should differ.
    fn audit(&mut self) {
        let from = self.audited.clone().map_or(Unbounded, Excluded);
        let mut behind = self
            .producers
            .range_mut::<Arc<ProducerId>, _>((from, Unbounded));
        let next = behind.next();
        self.audited = next.as_ref().map(|(id, _)| (*id).clone());
        if let Some((id, producer)) = next
            && producer.review.is_none()
            && !producer.sessions.is_empty()
        {
            producer.review = Some(Review {
                is_audit: true,
                ..Review::default()
            });
            let id = id.clone();
            self.wake(&id);
        }
    }

    fn is_silent(&self, session: &Session) -> bool {
        let silence = self.now.moment.saturating_sub(session.heard);
        silence > self.settings.inactive_producer_timeout
    }

    fn is_heard(&self, id: &Arc<ProducerId>) -> bool {
        self.producers.get(id).is_some_and(|producer| {
            let sessions = producer.sessions.iter();
            let mut sessions = sessions.filter_map(|session| self.sessions.get(session));
            sessions.any(|session| !self.is_silent(session))
        })
    }
}
