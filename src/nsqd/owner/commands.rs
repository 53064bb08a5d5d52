//! Carries out the commands of clients: IDENTIFY, REGISTER, UNREGISTER, PING, and their end.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};
use raftlookupd_raft::storage::registration_db::{Name, RegistrationDb};

use super::effects::{Reply, Verdict};
use super::ending::RECONNECTS;
use super::ids::SessionId;
use super::now::Now;
use super::producer::{Producer, Want, Withdrawn};
use super::session::Session;
use super::state::Owner;

/// How long a closing session waits for its claims to go, before its client sees the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The first PING of an inactive producer is answered once the producer is listed, or after this time.
const REACTIVATED: Duration = Duration::from_millis(250);

impl Owner {
    /// IDENTIFY: a session begins. The answer does not depend on the outcome; waiting lets the
    /// attachment be recorded first.
    pub fn identify(
        &mut self,
        now: Now,
        producer: ProducerId,
        info: PeerInfo,
        remote_address: String,
        can_commit: bool,
    ) -> (SessionId, Reply) {
        self.now = now;
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let id = self.shared_id(producer);
        let begun = self.me.map_or(now.moment, |me| me.since.max(now.moment));
        let inherits_until = begun + self.settings.inactive_producer_timeout;
        let known = self
            .producers
            .entry(id.clone())
            .or_insert_with(|| Producer {
                inherits_until: Some(inherits_until),
                is_active: true,
                ..Producer::default()
            });
        if known.sessions.is_empty() && known.inherits_until.is_none() {
            // What it has recorded was about to be released.
            known.inherits_until = Some(now.moment + RECONNECTS);
            known.is_reconnecting = true;
        }
        known.sessions.push(session);
        let opened = Session::new(id.clone(), remote_address, info, now.clock, now.moment);
        self.sessions.insert(session, opened);
        self.report_shared(&id);
        self.bound_sessions(&id);
        self.wake(&id);
        let reply = self.wait(session, Want::Attached, can_commit, self.settings.patience);
        (session, reply)
    }

    /// REGISTER.
    pub fn register(
        &mut self,
        now: Now,
        session: SessionId,
        topic: &str,
        channel: Option<&str>,
        db: Option<&RegistrationDb>,
        can_commit: bool,
    ) -> Reply {
        self.now = now;
        let Some((id, name)) = self.heard_of(session, topic, channel, db) else {
            return Reply::Now(Verdict::Unavailable);
        };
        self.registers += 1;
        let number = self.registers;
        self.account(session, |session| session.register(&name, number));
        let Some(producer) = self.producers.get_mut(&id) else {
            return Reply::Now(Verdict::Unavailable);
        };
        let is_back = producer.taken.remove(&name) && name.1.is_none();
        if std::mem::take(&mut producer.all_taken) || is_back {
            producer.start_review();
        }
        if self.bound(session) {
            return Reply::Now(Verdict::Unavailable);
        }
        let patience = self.patience(session);
        if can_commit && self.is_settled(&id, &name, db) {
            let ticket = self.ticket(session, &id, Want::Claim(name));
            return Reply::Confirm(ticket, patience);
        }
        if let Some(producer) = self.producers.get_mut(&id) {
            producer.registered.insert(name.clone());
        }
        self.wake(&id);
        self.wait(session, Want::Claim(name), can_commit, patience)
    }

    /// UNREGISTER. Earlier commands of the session have been answered.
    pub fn unregister(
        &mut self,
        now: Now,
        session: SessionId,
        topic: &str,
        channel: Option<&str>,
        db: Option<&RegistrationDb>,
        can_commit: bool,
    ) -> Reply {
        self.now = now;
        let Some((id, name)) = self.heard_of(session, topic, channel, db) else {
            return Reply::Now(Verdict::Unavailable);
        };
        let mut channels = None;
        self.account(session, |session| match &name.1 {
            None => channels = session.unregister_topic(&name.0),
            Some(channel) => session.unregister_channel(&name.0, channel),
        });
        let mut withdrawn = Withdrawn::spoken(&name);
        if name.1.is_none() {
            withdrawn.channels = channels.unwrap_or_default();
        }
        if let Some(producer) = self.producers.get_mut(&id)
            && std::mem::take(&mut producer.all_taken)
        {
            producer.start_review();
        }
        self.withdraw(session, &id, name, withdrawn, db, can_commit)
    }

    /// PING: the nsqd is alive, and has registered everything it has.
    pub fn ping(&mut self, now: Now, session: SessionId, can_commit: bool) -> Reply {
        self.now = now;
        let Some(heard) = self.sessions.get_mut(&session) else {
            return Reply::Now(Verdict::Done);
        };
        heard.heard = now.moment;
        heard.pinged = true;
        let id = heard.producer.clone();
        let Some(producer) = self.producers.get_mut(&id) else {
            return Reply::Now(Verdict::Done);
        };
        let mut changed = false;
        if producer.inherits_until.take().is_some() {
            producer.is_reconnecting = false;
            producer.start_review();
            changed = true;
        }
        if std::mem::take(&mut producer.all_taken) {
            producer.start_review();
            changed = true;
        }
        if !producer.taken.is_empty() {
            let claims = &heard.claims;
            let taken = producer.taken.iter();
            let wanted =
                taken.filter(|(topic, channel)| claims.contains(topic, channel.as_deref()));
            let wanted: Vec<Name> = wanted.cloned().collect();
            for name in wanted {
                producer.taken.remove(&name);
                if name.1.is_none() {
                    // With its channels.
                    producer.start_review();
                }
                producer.registered.insert(name);
                changed = true;
            }
            if producer.sessions.len() == 1 {
                // Nothing wants the others.
                producer.taken.clear();
            }
        }
        let reactivates = !producer.is_active;
        if changed || reactivates {
            self.wake(&id);
        }
        match reactivates && can_commit {
            true => self.wait(session, Want::Active, true, REACTIVATED),
            false => Reply::Now(Verdict::Done),
        }
    }

    /// The connection has ended. Waiting ends when what it registered is gone.
    pub fn close(&mut self, now: Now, session: SessionId, can_commit: bool) -> Reply {
        self.now = now;
        let Some(id) = self.remove(session) else {
            return Reply::Now(Verdict::Done);
        };
        self.wait_for(session, &id, Want::Ended, can_commit, FAREWELL)
    }

    /// The producer of a session and the name of its command, if the session is open.
    fn heard_of(
        &self,
        session: SessionId,
        topic: &str,
        channel: Option<&str>,
        db: Option<&RegistrationDb>,
    ) -> Option<(Arc<ProducerId>, Name)> {
        let id = self.sessions.get(&session)?.producer.clone();
        let shared = db.and_then(|db| db.shared_name(topic, channel));
        let name = shared.unwrap_or_else(|| (topic.into(), channel.map(Into::into)));
        Some((id, name))
    }

    fn withdraw(
        &mut self,
        session: SessionId,
        id: &Arc<ProducerId>,
        name: Name,
        withdrawn: Withdrawn,
        db: Option<&RegistrationDb>,
        can_commit: bool,
    ) -> Reply {
        let open = self.sessions.get(&session);
        let topic = (name.0.clone(), None);
        if open.is_some_and(|open| open.is_unconfirmed(&topic))
            && let Some(producer) = self.producers.get_mut(id)
        {
            producer.registered.insert(topic);
            self.wake(id);
        }
        match self.needs_release(id, &name, db) {
            // Another session may have the topic, but not all of its channels.
            false if can_commit && withdrawn.channels.is_empty() => {
                let patience = self.patience(session);
                let ticket = self.ticket(session, id, Want::Release(name));
                Reply::Confirm(ticket, patience)
            }
            _ => self.release(session, id, name, withdrawn, can_commit),
        }
    }
}
