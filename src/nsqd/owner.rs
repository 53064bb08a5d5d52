//! What this member's sessions want registered, and how the registry gets to record it. PURE.
//!
//! For each producer the owner keeps what its open sessions say: that is *wanted*. What the
//! registry holds for (producer, this member) is *recorded*. The reconciler compares the two and
//! proposes the difference, whenever a batch can take it. Nothing queues: what is wanted no longer
//! when a batch is made is not proposed.
//!
//! - Claims of several sessions of one producer add up; each withdraws its own only.
//! - What an earlier incarnation recorded is *inherited*: it is not wanted, only not released
//!   before its nsqd's first PING here, or before the timeout.
//! - A command is answered when its change is committed, or when a barrier has proven that the
//!   registry says so already. Otherwise it is answered `E_UNAVAILABLE`, and what it asked for stays
//!   wanted.
//! - Deleting a name over HTTP removes it from the sessions whose own REGISTER was confirmed.
//!
//! # Invariants
//! - At most one change of a fact is undecided.
//! - What sessions have waiting is bounded, for each and in total.
//! - No clock, no socket, no lock: time is an argument, and whoever calls passes the registry as it
//!   is at that moment, of which every change was reported by [`Owner::applied`] before.

mod claims;
mod producer;
mod reconcile;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::owner::Room;
use raftlookupd_raft::storage::event::{Event, Refusal};
use raftlookupd_raft::storage::registration::{MemberId, PeerInfo, ProducerId, UnixMillis};
use raftlookupd_raft::storage::registration_db::{Name, Note, RegistrationDb};

use claims::Channels;
use producer::{Producer, Review, Want, Withdrawn};
use reconcile::{Fact, Found, Reconciler};
use session::Session;

/// A moment of this process's monotonic clock, as the time since some fixed one.
pub type Moment = Duration;

/// An open session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A command that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// By the process's own clock.
    pub moment: Moment,
    /// By the cluster's clock.
    pub clock: UnixMillis,
}

/// What the owner is told about its limits.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A session without PING for longer is silent.
    pub inactive_producer_timeout: Duration,
    /// How long a command waits to be decided. nsqd gives a lookupd one second.
    pub patience: Duration,
    /// The same while an earlier command of the session is overdue. An nsqd that waited half a
    /// second a thousand times would neglect its other lookupds for minutes.
    pub patience_when_late: Duration,
    /// What one session may have undecided, in bytes.
    pub most_undecided: usize,
    /// What all sessions may have undecided, in bytes.
    pub most_undecided_in_total: usize,
}

impl Settings {
    /// The usual limits.
    pub fn with_timeout(inactive_producer_timeout: Duration) -> Self {
        Settings {
            inactive_producer_timeout,
            patience: Duration::from_millis(500),
            patience_when_late: Duration::from_millis(10),
            most_undecided: 24 << 20,
            most_undecided_in_total: 64 << 20,
        }
    }
}

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is decided as the client asked.
    Done,
    /// Not decided in time; what it asked for stays wanted.
    Unavailable,
    /// After a barrier, [`Owner::confirm`] says more.
    Confirm,
}

/// What to do about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Answer this.
    Now(Verdict),
    /// Wait for an [`Effect::Answer`], at most this long; then call [`Owner::expire`].
    Wait(Ticket, Duration),
    /// Make a barrier, at most this long, then call [`Owner::confirm`], or [`Owner::expire`].
    Confirm(Ticket, Duration),
}

/// What the owner wants done besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The answer to a command that waits.
    Answer(Ticket, Verdict),
    /// End the connection of a session. The owner has forgotten it already.
    Close(SessionId, CloseReason),
    /// Two open connections announce one producer.
    Shared {
        /// The producer.
        producer: ProducerId,
        /// `ip:port` of the newest connection, and of another.
        remote_addresses: [String; 2],
    },
    /// No session of the producer was heard for the timeout; or one is again.
    Active(ProducerId, bool),
    /// Producers of earlier incarnations that did not come back.
    Abandoned(usize),
}

/// Why a session is ended by this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// It has more undecided than it may.
    TooMuchUndecided,
    /// All sessions together have, and it has most of it.
    MostUndecided,
    /// It is silent, and another session of its producer is not.
    PresumedDead,
    /// A snapshot has replaced the registry.
    Replaced,
}

/// How much there is of what the owner keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open sessions.
    pub sessions: usize,
    /// Sessions beyond the first of their producer.
    pub surplus_sessions: usize,
    /// Bytes of undecided changes.
    pub undecided_bytes: usize,
    /// Differences that a routine check has found and repaired.
    pub repairs: u64,
    /// Attachments of earlier incarnations.
    pub inherited: usize,
}

/// The owner of what one member's sessions register.
#[derive(Debug)]
pub struct Owner {
    settings: Settings,
    /// Who this is, once the registry has loaded.
    me: Option<Me>,
    now: Now,
    sessions: BTreeMap<SessionId, Session>,
    producers: BTreeMap<Arc<ProducerId>, Producer>,
    /// Producers with something to compare, in turn.
    ready: VecDeque<Arc<ProducerId>>,
    flights: VecDeque<Flight>,
    tickets: BTreeMap<Ticket, Waiting>,
    last_session: u64,
    last_ticket: u64,
    /// REGISTERs so far.
    registers: u64,
    undecided_bytes: usize,
    /// Where the periodic look at all producers has got to.
    looked_at: Option<Arc<ProducerId>>,
    /// Where the routine check has got to.
    audited: Option<Arc<ProducerId>>,
    repairs: u64,
    effects: Vec<Effect>,
    discarded: Vec<Channels>,
}

#[derive(Debug, Clone, Copy)]
struct Me {
    member: MemberId,
    incarnation: u64,
    /// When the registry was loaded or replaced.
    since: Moment,
}

/// A batch that is not applied here yet.
#[derive(Debug)]
struct Flight {
    sequence: u64,
    facts: Vec<Fact>,
    /// The last REGISTER before it was made. A delete that was acknowledged before that is applied
    /// before this is.
    registers: u64,
    /// Names that were recorded already, and whose REGISTERs are confirmed with it.
    unconfirmed: Vec<(Arc<ProducerId>, Name)>,
}

#[derive(Debug)]
struct Waiting {
    session: SessionId,
    producer: Arc<ProducerId>,
    want: Want,
    /// The last REGISTER so far.
    registers: u64,
}

/// Batches that may be committed and not applied here: this member lags behind then.
const MOST_FLIGHTS: usize = 64;

/// Changes that one producer gets into a batch before others have their turn.
const TURN: usize = 64;

/// Names looked at for one batch.
const LOOKS: usize = 8192;

/// Producers looked at in one tick, at least.
const LOOKED_AT_ONCE: usize = 64;

/// A refused change is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the end of a session waits for its claims to go, before its client sees the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// An inactive producer that PINGs again is answered when it is listed, at most this late.
const REACTIVATED: Duration = Duration::from_millis(250);

/// Between two lines in the log about the same producer.
const SHARED_AGAIN: Duration = Duration::from_secs(60);

/// What a change takes in a batch besides its names.
const EVENT_BYTES: usize = 64;

impl Owner {
    /// An owner without sessions; the registry has not loaded.
    pub fn new(settings: Settings) -> Self {
        Owner {
            settings,
            me: None,
            now: Now {
                moment: Duration::ZERO,
                clock: 0,
            },
            sessions: BTreeMap::new(),
            producers: BTreeMap::new(),
            ready: VecDeque::new(),
            flights: VecDeque::new(),
            tickets: BTreeMap::new(),
            last_session: 0,
            last_ticket: 0,
            registers: 0,
            undecided_bytes: 0,
            looked_at: None,
            audited: None,
            repairs: 0,
            effects: Vec::new(),
            discarded: Vec::new(),
        }
    }

    /// What is to be done besides, since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Memory that takes a while to free; to be dropped where nobody waits.
    pub fn take_discarded(&mut self) -> impl Sized + Send + use<> {
        std::mem::take(&mut self.discarded)
    }

    /// Whether there may be something to propose.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() && self.flights.len() < MOST_FLIGHTS
    }

    /// How much there is of everything; of the registry if it has loaded.
    pub fn counts(&self, db: Option<&RegistrationDb>) -> Counts {
        let with_sessions = self.producers.values();
        let with_sessions = with_sessions.filter(|producer| !producer.sessions.is_empty());
        let inherited = self.me.zip(db);
        Counts {
            sessions: self.sessions.len(),
            surplus_sessions: self.sessions.len() - with_sessions.count(),
            undecided_bytes: self.undecided_bytes,
            repairs: self.repairs,
            inherited: inherited.map_or(0, |(me, db)| db.inherited(me.member, me.incarnation)),
        }
    }

    // What clients do.

    /// IDENTIFY: a session begins. The client is told who this member is in any case; waiting
    /// brings the attachment about before.
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
            // What it has recorded was about to go.
            known.inherits_until = Some(inherits_until);
            known.is_reconnecting = true;
        }
        known.sessions.push(session);
        let opened = Session::new(id.clone(), remote_address, info, now.clock, now.moment);
        self.sessions.insert(session, opened);
        self.report_shared(&id);
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
        let patience = self.patience(session);
        if can_commit && self.is_settled(&id, &name, db) {
            let ticket = self.ticket(session, &id, Want::Claim(name));
            return Reply::Confirm(ticket, patience);
        }
        if let Some(producer) = self.producers.get_mut(&id) {
            producer.registered.insert(name.clone());
        }
        self.wake(&id);
        if self.bound(session) {
            return Reply::Now(Verdict::Unavailable);
        }
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
        self.withdraw(session, &id, name, withdrawn, db, can_commit)
    }

    /// PING: the nsqd is alive, and has registered all it has.
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

    /// The connection is over. Waiting sees what it registered go.
    pub fn close(&mut self, now: Now, session: SessionId, can_commit: bool) -> Reply {
        self.now = now;
        let Some(id) = self.remove(session) else {
            return Reply::Now(Verdict::Done);
        };
        self.wait_for(session, &id, Want::Ended, can_commit, FAREWELL)
    }

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
                    if let Some(session) = self.sessions.get_mut(&session) {
                        session.late = false;
                    }
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
                false => Reply::Now(Verdict::Done),
            },
            Want::Attached | Want::Active | Want::Ended => Reply::Now(Verdict::Done),
        }
    }

    /// A command was not decided in time. The answer to it.
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
                if let Some(session) = self.sessions.get_mut(&waiting.session) {
                    session.late = true;
                    if let Some(producer) = self.producers.get_mut(&waiting.producer) {
                        producer.registered.insert(name);
                    }
                    self.wake(&waiting.producer);
                }
                Verdict::Unavailable
            }
            Want::Release(_) => {
                if let Some(session) = self.sessions.get_mut(&waiting.session) {
                    session.late = true;
                }
                Verdict::Unavailable
            }
            // These are answered in any case.
            Want::Attached | Want::Active | Want::Ended => Verdict::Done,
        }
    }

    // What time does.

    /// Looks at some of the producers: at all of them in eight calls.
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
            self.look_at(&id);
        }
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
        if !has_sessions {
            let inherits = producer.inherits_until.take_if(|until| *until <= now);
            wakes |= inherits.is_some();
        }
        if has_sessions && producer.is_active != heard && !producer.undecided.activity {
            let active = Effect::Active((**id).clone(), heard);
            self.effects.push(active);
            wakes = true;
        }
        match wakes {
            true => self.wake(id),
            false => self.forget_if_idle(id),
        }
    }

    /// A silent session gives way to one that is not: nsqd came back on another connection.
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
        let timeout = millis(self.settings.inactive_producer_timeout);
        let Some(until) = self.now.clock.checked_sub(timeout) else {
            return;
        };
        let found = db.abandoned(me.member, me.incarnation, until, LOOKED_AT_ONCE);
        let mut abandoned = 0;
        for id in found {
            let id = self.shared_id(id);
            let producer = self.producers.entry(id.clone()).or_default();
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

    /// Compares everything of one producer after the other, though nothing should be found.
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

    // What the registry does.

    /// The registry has loaded, or was replaced: what it records at this member is inherited.
    /// After a replacement the sessions end: from a snapshot it cannot be told whether a name was
    /// deleted or never recorded.
    pub fn begin(&mut self, now: Now, member: MemberId, incarnation: u64, replaced: bool) {
        self.now = now;
        self.me = Some(Me {
            member,
            incarnation,
            since: now.moment,
        });
        self.flights.clear();
        if replaced {
            let sessions = std::mem::take(&mut self.sessions);
            let closed = sessions.keys();
            let closed = closed.map(|session| Effect::Close(*session, CloseReason::Replaced));
            self.effects.extend(closed);
            self.producers.clear();
            self.ready.clear();
            self.tickets.clear();
            self.undecided_bytes = 0;
            return;
        }
        let until = now.moment + self.settings.inactive_producer_timeout;
        let ids: Vec<Arc<ProducerId>> = self.producers.keys().cloned().collect();
        for id in ids {
            if let Some(producer) = self.producers.get_mut(&id) {
                producer.inherits_until = producer.inherits_until.map(|_| until);
            }
            self.wake(&id);
        }
    }

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
        let mut facts = Vec::new();
        let mut events = Vec::new();
        let (mut bytes, mut looks) = (0, LOOKS);
        let (mut done, mut unproven) = (Vec::new(), Vec::new());
        let mut unconfirmed = Vec::new();
        while self.flights.len() < MOST_FLIGHTS
            && events.len() < room.events
            && bytes < room.bytes
            && looks > 0
            && let Some(id) = self.ready.pop_front()
        {
            let Some(producer) = self.producers.get_mut(&id) else {
                continue;
            };
            producer.is_ready = false;
            if producer.not_before.is_some_and(|at| at > now.moment) {
                continue;
            }
            let mut reconciler = Reconciler {
                id: &id,
                producer,
                sessions: &self.sessions,
                db,
                member: me.member,
                incarnation: me.incarnation,
                now: self.now.moment,
                timeout: self.settings.inactive_producer_timeout,
                clock: self.now.clock,
                looks: &mut looks,
                done: &mut done,
                unproven: &mut unproven,
                unconfirmed: &mut unconfirmed,
                repairs: &mut self.repairs,
            };
            let mut more = true;
            for _ in 0..TURN {
                if events.len() >= room.events || bytes >= room.bytes {
                    break;
                }
                match reconciler.next() {
                    Found::Change(event, fact) => {
                        bytes += size_of(&event);
                        events.push(*event);
                        facts.push(fact);
                    }
                    Found::Nothing => {
                        more = false;
                        break;
                    }
                    Found::Pause => break,
                }
            }
            match more {
                true => self.wake(&id),
                false => self.forget_if_idle(&id),
            }
        }
        for ticket in done {
            self.answer(ticket, Verdict::Done);
        }
        for ticket in unproven {
            if self.tickets.contains_key(&ticket) {
                self.effects.push(Effect::Answer(ticket, Verdict::Confirm));
            }
        }
        if events.is_empty()
            && let Some((id, name)) = unconfirmed.first()
            && let Some(producer) = self.producers.get_mut(id)
        {
            // One is recorded once more, so that there is a batch.
            producer.undecided.names.insert(name.clone());
            events.push(Event::Claim {
                producer: (**id).clone(),
                topic: name.0.to_string(),
                channel: name.1.as_deref().map(String::from),
            });
            facts.push(Fact::Claimed(id.clone(), name.clone()));
        }
        if !facts.is_empty() {
            self.flights.push_back(Flight {
                sequence,
                facts,
                registers: self.registers,
                unconfirmed,
            });
        }
        events
    }

    /// The batch is committed: its commands are answered.
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
            .filter(|(position, _)| !is_refused(*position))
            .map(|(_, fact)| fact.clone())
            .collect();
        let registers = flight.registers;
        for fact in decided {
            self.answer_decided(&fact, registers);
        }
    }

    /// What was applied means this for the member. The registry is as it is after all of it.
    pub fn applied(&mut self, now: Now, notes: Vec<Note>, db: &RegistrationDb) {
        self.now = now;
        for note in notes {
            match note {
                Note::Batch {
                    incarnation,
                    sequence,
                    refused,
                } => {
                    if self.me.is_some_and(|me| me.incarnation == incarnation) {
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
        let mut refused = refused.iter().map(|(position, _)| *position).peekable();
        let mut last: Option<Arc<ProducerId>> = None;
        for (position, fact) in (0u32..).zip(flight.facts) {
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

    /// A name was recorded when a batch was made that is applied now: REGISTERs up to this one are
    /// confirmed, if it is still.
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

    /// REGISTERs of a name up to this one are confirmed.
    fn proven(&mut self, id: &Arc<ProducerId>, name: Name, registers: u64) {
        let sessions = self
            .producers
            .get(id)
            .map(|producer| producer.sessions.clone());
        for session in sessions.into_iter().flatten() {
            self.account(session, |session| session.confirm(&name, registers));
        }
        self.register_unconfirmed(id, name);
    }

    /// Has a name compared again while a REGISTER of it is not confirmed.
    fn register_unconfirmed(&mut self, id: &Arc<ProducerId>, name: Name) {
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
            // Tried again, but not at once: whoever undoes it may do so every time.
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
            // Deleted right behind it.
            producer.registered.insert(name);
        }
    }

    fn deleted(&mut self, topic: &Arc<str>, channel: Option<&Arc<str>>, holders: Vec<ProducerId>) {
        let mut ids: Vec<Arc<ProducerId>> = Vec::new();
        for holder in holders {
            ids.extend(
                self.producers
                    .get_key_value(&holder)
                    .map(|(id, _)| id.clone()),
            );
        }
        // Those whose claims were taken hold nothing, and would record them again.
        let taken = self
            .producers
            .iter()
            .filter(|(_, producer)| producer.all_taken || !producer.taken.is_empty());
        ids.extend(taken.map(|(id, _)| id.clone()));
        for id in ids {
            let Some(producer) = self.producers.get_mut(&id) else {
                continue;
            };
            let of_name = |(other, sub): &Name| {
                other == topic && channel.is_none_or(|channel| sub.as_ref() == Some(channel))
            };
            producer.taken.retain(|name| !of_name(name));
            for session in producer.sessions.clone() {
                let Some(session) = self.sessions.get_mut(&session) else {
                    continue;
                };
                match channel {
                    None => self.discarded.extend(session.topic_deleted(topic)),
                    Some(channel) => session.channel_deleted(topic, channel),
                }
                // What still waits is to be recorded behind it.
                let waiting = session.unconfirmed_of(topic);
                producer.registered.extend(waiting);
            }
            self.wake(&id);
        }
    }

    fn taken(&mut self, producer: ProducerId, name: Option<Name>) {
        let Some(producer) = self.producers.get_mut(&producer) else {
            return;
        };
        match name {
            None => producer.all_taken = true,
            Some(name) => {
                producer.taken.insert(name);
            }
        }
    }

    // What several of these do.

    /// The session's producer and the name of a command, if the session is open.
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
            false if can_commit => {
                // Of a topic that another session has, channels may still have to go.
                if !withdrawn.channels.is_empty()
                    && let Some(producer) = self.producers.get_mut(id)
                {
                    producer.withdrawn.push_back(withdrawn);
                    self.wake(id);
                }
                let patience = self.patience(session);
                let ticket = self.ticket(session, id, Want::Release(name));
                Reply::Confirm(ticket, patience)
            }
            _ => self.release(session, id, name, withdrawn, can_commit),
        }
    }

    fn release(
        &mut self,
        session: SessionId,
        id: &Arc<ProducerId>,
        name: Name,
        withdrawn: Withdrawn,
        can_commit: bool,
    ) -> Reply {
        if let Some(producer) = self.producers.get_mut(id) {
            producer.withdrawn.push_back(withdrawn);
        }
        self.wake(id);
        let patience = self.patience(session);
        self.wait_for(session, id, Want::Release(name), can_commit, patience)
    }

    /// Whether an UNREGISTER may have something to change.
    fn needs_release(
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

    /// Whether the claim is recorded, and no change of it or of its attachment undecided.
    fn is_settled(&self, id: &Arc<ProducerId>, name: &Name, db: Option<&RegistrationDb>) -> bool {
        let (Some(me), Some(db), Some(producer)) = (self.me, db, self.producers.get(id)) else {
            return false;
        };
        let attached = db.recorded(me.member, id);
        attached.is_some_and(|attached| attached.incarnation == me.incarnation)
            && !producer.undecided.attachment
            && !producer.undecided.has(name)
            && db.is_recorded(me.member, id, &name.0, name.1.as_deref())
    }

    /// A session ends by this member's decision.
    fn end(&mut self, session: SessionId, reason: CloseReason) {
        if self.remove(session).is_some() {
            self.effects.push(Effect::Close(session, reason));
        }
    }

    /// Forgets a session; what only it wanted is withdrawn.
    fn remove(&mut self, session: SessionId) -> Option<Arc<ProducerId>> {
        let closed = self.sessions.remove(&session)?;
        self.undecided_bytes -= closed.undecided_bytes();
        let id = closed.producer.clone();
        if let Some(producer) = self.producers.get_mut(&id) {
            producer.sessions.retain(|open| *open != session);
            producer.ended = self.now.clock;
            // Sessions are in their order.
            let newest = producer.sessions.last().copied();
            let newest_pinged = newest.and_then(|newest| Some(self.sessions.get(&newest)?.pinged));
            let comes_back = newest > Some(session) && newest_pinged == Some(false);
            if comes_back && producer.inherits_until.is_none() {
                let timeout = self.settings.inactive_producer_timeout;
                producer.inherits_until = Some(self.now.moment + timeout);
                producer.is_reconnecting = true;
            }
            if producer.is_reconnecting && newest_pinged != Some(false) {
                producer.is_reconnecting = false;
                producer.inherits_until = None;
                producer.start_review();
            }
            producer.withdraw_all(closed.claims);
        }
        self.wake(&id);
        Some(id)
    }

    /// Closes whoever has too much undecided; whether that was this session.
    fn bound(&mut self, session: SessionId) -> bool {
        let bytes = self.sessions.get(&session).map(Session::undecided_bytes);
        if bytes.is_some_and(|bytes| bytes > self.settings.most_undecided) {
            self.end(session, CloseReason::TooMuchUndecided);
            return true;
        }
        if self.undecided_bytes <= self.settings.most_undecided_in_total {
            return false;
        }
        let sessions = self.sessions.iter();
        let most = sessions.max_by_key(|(_, session)| session.undecided_bytes());
        let Some(most) = most.map(|(id, _)| *id) else {
            return false;
        };
        self.end(most, CloseReason::MostUndecided);
        most == session
    }

    /// Changes a session, and keeps the total of what is undecided in step.
    fn account(&mut self, session: SessionId, change: impl FnOnce(&mut Session)) {
        let Some(session) = self.sessions.get_mut(&session) else {
            return;
        };
        let before = session.undecided_bytes();
        change(session);
        self.undecided_bytes = self.undecided_bytes - before + session.undecided_bytes();
    }

    fn report_shared(&mut self, id: &Arc<ProducerId>) {
        let now = self.now.moment;
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        let [.., other, newest] = producer.sessions.as_slice() else {
            return;
        };
        let logged = producer.shared_logged;
        if logged.is_some_and(|at| now.saturating_sub(at) < SHARED_AGAIN) {
            return;
        }
        let address = |session: &SessionId| {
            let session = self.sessions.get(session);
            session.map_or_else(String::new, |session| session.remote_address.clone())
        };
        let remote_addresses = [address(newest), address(other)];
        producer.shared_logged = Some(now);
        self.effects.push(Effect::Shared {
            producer: (**id).clone(),
            remote_addresses,
        });
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

    fn patience(&self, session: SessionId) -> Duration {
        let session = self.sessions.get(&session);
        match session.is_some_and(|session| session.late && session.has_unconfirmed()) {
            true => self.settings.patience_when_late,
            false => self.settings.patience,
        }
    }

    fn wait(
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

    fn wait_for(
        &mut self,
        session: SessionId,
        id: &Arc<ProducerId>,
        want: Want,
        can_commit: bool,
        patience: Duration,
    ) -> Reply {
        if !can_commit {
            let in_any_case = matches!(want, Want::Attached | Want::Active | Want::Ended);
            if let Some(session) = self.sessions.get_mut(&session) {
                session.late |= !in_any_case;
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

    fn ticket(&mut self, session: SessionId, id: &Arc<ProducerId>, want: Want) -> Ticket {
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

    /// Answers what waits for a fact that is committed, but for REGISTERs behind this one.
    fn answer_decided(&mut self, fact: &Fact, registers: u64) {
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

    fn answer(&mut self, ticket: Ticket, verdict: Verdict) {
        let Some(waiting) = self.tickets.remove(&ticket) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&waiting.session) {
            session.late = false;
        }
        self.effects.push(Effect::Answer(ticket, verdict));
    }

    /// Answers who waits for what ended sessions leave, once that is gone.
    fn resolve_ended(&mut self, id: &Arc<ProducerId>) {
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

    /// Queues a producer for the next batch.
    fn wake(&mut self, id: &Arc<ProducerId>) {
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        if !std::mem::replace(&mut producer.is_ready, true) {
            self.ready.push_back(id.clone());
        }
    }

    fn forget_if_idle(&mut self, id: &Arc<ProducerId>) {
        self.resolve_ended(id);
        if self.producers.get(id).is_some_and(Producer::is_idle) {
            self.producers.remove(id);
        }
    }

    fn shared_id(&self, id: ProducerId) -> Arc<ProducerId> {
        match self.producers.get_key_value(&id) {
            Some((shared, _)) => shared.clone(),
            None => Arc::new(id),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Roughly what an event takes in a batch.
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
        // The owner proposes no others.
        _ => return EVENT_BYTES,
    };
    producer.broadcast_address.len() + names + EVENT_BYTES
}
