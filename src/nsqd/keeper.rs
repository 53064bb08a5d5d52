//! The owner of this member's sessions, shared by all connections and by the registry: carries
//! answers to where they are awaited, and makes barriers.
//!
//! Lock order: the owner, then the registry; the state machine keeps to it as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_raft::Registry;
use raftlookupd_raft::owner::{Owner as RegistryOwner, Room, SharedOwner};
use raftlookupd_raft::storage::event::{Event, Refusal};
use raftlookupd_raft::storage::registration::{MemberId, PeerInfo, ProducerId, UnixMillis};
use raftlookupd_raft::storage::registration_db::{Note, RegistrationDb};
use tokio::sync::{Notify, oneshot, watch};

use crate::context::unix_millis;
use crate::metrics::{Metrics, SessionEvent};
use crate::nsqd::owner::{
    CloseReason, Counts, Effect, Moment, Now, Owner, Reply, SessionId, Settings, Ticket, Verdict,
};

/// Looks at all producers take eight ticks; a timeout is noticed within a tenth of it.
const TICKS_PER_TIMEOUT: u32 = 80;

/// Between two ticks at most, and at least.
const LONGEST_TICK: Duration = Duration::from_millis(125);
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// Log lines about two connections of one producer in one tick; a crowd that reconnects writes no
/// more.
const SHARED_LINES: usize = 5;

/// Keeps the sessions of one member. Clones share them.
#[derive(Clone)]
pub(crate) struct Keeper {
    shared: Arc<Mutex<Shared>>,
    waker: Arc<Notify>,
    registry: watch::Receiver<Option<Registry>>,
}

struct Shared {
    owner: Owner,
    began: Instant,
    metrics: Arc<Metrics>,
    /// The cluster's time as it was last known here, and when.
    clock: (UnixMillis, Instant),
    tickets: HashMap<Ticket, oneshot::Sender<Verdict>>,
    connections: HashMap<SessionId, oneshot::Sender<CloseReason>>,
    shared_lines: usize,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keeper")
    }
}

/// What an open session may be asked to do.
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    /// Resolves when this member ends the session.
    pub(crate) closed: oneshot::Receiver<CloseReason>,
}

impl Keeper {
    /// A keeper without sessions, of a registry that loads later.
    pub(crate) fn new(
        timeout: Duration,
        registry: watch::Receiver<Option<Registry>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared = Shared {
            owner: Owner::new(Settings::with_timeout(timeout)),
            began: Instant::now(),
            metrics,
            clock: (unix_millis(), Instant::now()),
            tickets: HashMap::new(),
            connections: HashMap::new(),
            shared_lines: 0,
        };
        Keeper {
            shared: Arc::new(Mutex::new(shared)),
            waker: Arc::default(),
            registry,
        }
    }

    /// What the registry is started with.
    pub(crate) fn for_registry(&self) -> SharedOwner {
        SharedOwner::new(self.shared.clone(), self.waker.clone())
    }

    /// Lets time pass for the sessions; runs for as long as the member does.
    pub(crate) async fn run(self, timeout: Duration) {
        let tick = (timeout / TICKS_PER_TIMEOUT).clamp(SHORTEST_TICK, LONGEST_TICK);
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let registry = self.registry();
            let discarded = {
                let mut shared = self.lock();
                shared.shared_lines = 0;
                shared.learn_time(registry.as_ref());
                let now = shared.now();
                match &registry {
                    Some(registry) => registry.read(|db| shared.owner.tick(now, Some(db))),
                    None => shared.owner.tick(now, None),
                }
                self.carry_out(&mut shared);
                shared.owner.take_discarded()
            };
            drop(discarded);
        }
    }

    /// IDENTIFY. Waits a moment for the attachment.
    pub(crate) async fn identify(
        &self,
        producer: ProducerId,
        info: PeerInfo,
        remote_address: String,
    ) -> Opened {
        let (close, closed) = oneshot::channel();
        let (session, reply) = {
            let registry = self.registry();
            let mut shared = self.lock();
            shared.learn_time(registry.as_ref());
            let now = shared.now();
            let can_commit = can_commit(registry.as_ref());
            let (session, reply) =
                shared
                    .owner
                    .identify(now, producer, info, remote_address, can_commit);
            shared.connections.insert(session, close);
            (session, self.follow(&mut shared, reply))
        };
        self.wait(reply).await;
        Opened { session, closed }
    }

    /// REGISTER; the answer comes later.
    pub(crate) fn register(
        &self,
        session: SessionId,
        topic: &str,
        channel: Option<&str>,
    ) -> impl Future<Output = Verdict> + Send + use<> {
        self.answer_to(self.command(|owner, now, db, can_commit| {
            owner.register(now, session, topic, channel, db, can_commit)
        }))
    }

    /// UNREGISTER; the answer comes later. Earlier commands must have been answered.
    pub(crate) fn unregister(
        &self,
        session: SessionId,
        topic: &str,
        channel: Option<&str>,
    ) -> impl Future<Output = Verdict> + Send + use<> {
        self.answer_to(self.command(|owner, now, db, can_commit| {
            owner.unregister(now, session, topic, channel, db, can_commit)
        }))
    }

    /// PING.
    pub(crate) fn ping(&self, session: SessionId) -> impl Future<Output = Verdict> + Send + use<> {
        self.answer_to(
            self.command(|owner, now, _, can_commit| owner.ping(now, session, can_commit)),
        )
    }

    /// The connection is over. Waits a moment for what it registered to go.
    pub(crate) async fn close(&self, session: SessionId) {
        self.lock().connections.remove(&session);
        let closed =
            self.command(|owner, now, _, can_commit| owner.close(now, session, can_commit));
        self.wait(closed).await;
    }

    /// For metrics.
    pub(crate) fn counts(&self) -> Counts {
        let registry = self.registry();
        let shared = self.lock();
        match &registry {
            Some(registry) => registry.read(|db| shared.owner.counts(Some(db))),
            None => shared.owner.counts(None),
        }
    }

    fn command(
        &self,
        command: impl FnOnce(&mut Owner, Now, Option<&RegistrationDb>, bool) -> Reply,
    ) -> Awaited {
        let registry = self.registry();
        let mut shared = self.lock();
        let now = shared.now();
        let can_commit = can_commit(registry.as_ref());
        let reply = match &registry {
            Some(registry) => {
                registry.read(|db| command(&mut shared.owner, now, Some(db), can_commit))
            }
            None => command(&mut shared.owner, now, None, can_commit),
        };
        self.follow(&mut shared, reply)
    }

    fn answer_to(&self, awaited: Awaited) -> impl Future<Output = Verdict> + Send + use<> {
        let keeper = self.clone();
        async move { keeper.wait(awaited).await }
    }

    /// Prepares to wait for a reply, before anybody else can answer it.
    fn follow(&self, shared: &mut Shared, reply: Reply) -> Awaited {
        self.carry_out(shared);
        match reply {
            Reply::Now(verdict) => Awaited::Now(verdict),
            Reply::Confirm(ticket, patience) => Awaited::Barrier {
                ticket: self.held(ticket),
                until: Instant::now() + patience,
            },
            Reply::Wait(ticket, patience) => {
                let (answer, awaited) = oneshot::channel();
                shared.tickets.insert(ticket, answer);
                Awaited::Answer {
                    ticket: self.held(ticket),
                    awaited,
                    until: Instant::now() + patience,
                }
            }
        }
    }

    async fn wait(&self, mut awaited: Awaited) -> Verdict {
        loop {
            let (ticket, until) = match awaited {
                Awaited::Now(verdict) => return verdict,
                Awaited::Barrier { ticket, until } => (ticket, until),
                Awaited::Answer {
                    mut ticket,
                    awaited,
                    until,
                } => match tokio::time::timeout_at(until.into(), awaited).await {
                    Ok(Ok(Verdict::Confirm)) => (ticket, until),
                    Ok(Ok(verdict)) => {
                        ticket.is_open = false;
                        return verdict;
                    }
                    // Too late, or the session has been ended.
                    Ok(Err(_)) | Err(_) => return ticket.expire(),
                },
            };
            awaited = match self.confirm(ticket, until).await {
                Ok(next) => next,
                Err(verdict) => return verdict,
            };
        }
    }

    /// Makes a barrier, and asks the owner again.
    async fn confirm(&self, mut ticket: Held, until: Instant) -> Result<Awaited, Verdict> {
        let Some(registry) = self.registry() else {
            return Err(ticket.expire());
        };
        let left = until.saturating_duration_since(Instant::now());
        if registry.barrier(left).await.is_err() {
            return Err(ticket.expire());
        }
        ticket.is_open = false;
        let mut shared = self.lock();
        let now = shared.now();
        let reply = registry.read(|db| shared.owner.confirm(now, ticket.ticket, db));
        Ok(self.follow(&mut shared, reply))
    }

    fn held(&self, ticket: Ticket) -> Held {
        Held {
            keeper: self.clone(),
            ticket,
            is_open: true,
        }
    }

    fn carry_out(&self, shared: &mut Shared) {
        shared.carry_out();
        if shared.owner.has_work() {
            self.waker.notify_one();
        }
    }

    fn registry(&self) -> Option<Registry> {
        self.registry.borrow().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a command waits for.
enum Awaited {
    Now(Verdict),
    Barrier {
        ticket: Held,
        until: Instant,
    },
    Answer {
        ticket: Held,
        awaited: oneshot::Receiver<Verdict>,
        until: Instant,
    },
}

/// A ticket that expires when nobody waits for it any longer.
struct Held {
    keeper: Keeper,
    ticket: Ticket,
    is_open: bool,
}

impl Held {
    fn expire(mut self) -> Verdict {
        self.is_open = false;
        let mut shared = self.keeper.lock();
        shared.tickets.remove(&self.ticket);
        shared.owner.expire(self.ticket)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_open {
            let mut shared = self.keeper.lock();
            shared.tickets.remove(&self.ticket);
            shared.owner.expire(self.ticket);
        }
    }
}

impl Shared {
    fn now(&self) -> Now {
        let (clock, at) = self.clock;
        let since = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now {
            moment: self.moment(),
            clock: clock.saturating_add(since),
        }
    }

    fn moment(&self) -> Moment {
        self.began.elapsed()
    }

    fn learn_time(&mut self, registry: Option<&Registry>) {
        if let Some(registry) = registry {
            self.clock = (registry.now(), Instant::now());
        }
    }

    fn carry_out(&mut self) {
        for effect in self.owner.take_effects() {
            match effect {
                Effect::Answer(ticket, verdict) => {
                    if let Some(waiting) = self.tickets.remove(&ticket) {
                        // The client may just have gone.
                        let _ = waiting.send(verdict);
                    }
                }
                Effect::Close(session, reason) => {
                    if let Some(connection) = self.connections.remove(&session) {
                        if reason == CloseReason::PresumedDead {
                            self.metrics.session(SessionEvent::PresumedDead);
                        }
                        let _ = connection.send(reason);
                    }
                }
                Effect::Shared {
                    producer,
                    remote_addresses: [newer, older],
                } => {
                    self.shared_lines += 1;
                    if self.shared_lines <= SHARED_LINES {
                        let (address, port) = (&producer.broadcast_address, producer.tcp_port);
                        tracing::warn!(
                            producer = %format_args!("{address}:{port}"),
                            newer,
                            older,
                            "two connections announce one nsqd: its topics are those of both"
                        );
                    }
                }
                Effect::Active(producer, active) => {
                    let (address, port) = (&producer.broadcast_address, producer.tcp_port);
                    let producer = format_args!("{address}:{port}");
                    match active {
                        false => {
                            tracing::warn!(%producer, "no PING for too long: the nsqd is hidden");
                            self.metrics.session(SessionEvent::Inactive);
                        }
                        true => {
                            tracing::info!(%producer, "PING again: the nsqd is listed");
                            self.metrics.session(SessionEvent::ActiveAgain);
                        }
                    }
                }
                Effect::Abandoned(nsqds) => {
                    tracing::warn!(
                        nsqds,
                        "nsqds of before the restart did not come back: unlisting them"
                    );
                    for _ in 0..nsqds {
                        self.metrics.session(SessionEvent::Abandoned);
                    }
                }
            }
        }
    }
}

/// What the registry tells the owner.
impl RegistryOwner for Shared {
    fn loaded(&mut self, member: MemberId, incarnation: u64, _: &RegistrationDb) {
        let now = self.now();
        self.owner.begin(now, member, incarnation, false);
        self.carry_out();
    }

    fn replaced(&mut self, member: MemberId, incarnation: u64, _: &RegistrationDb) {
        let now = self.now();
        self.owner.begin(now, member, incarnation, true);
        self.carry_out();
    }

    fn propose(
        &mut self,
        sequence: u64,
        clock: UnixMillis,
        room: Room,
        db: &RegistrationDb,
    ) -> Vec<Event> {
        self.clock = (clock, Instant::now());
        let now = self.now();
        let events = self.owner.propose(now, sequence, room, db);
        self.carry_out();
        events
    }

    fn has_more(&self) -> bool {
        self.owner.has_work()
    }

    fn committed(&mut self, sequence: u64, refused: &[(u32, Refusal)]) {
        self.owner.committed(sequence, refused);
        self.carry_out();
    }

    fn applied(&mut self, notes: Vec<Note>, db: &RegistrationDb) -> bool {
        let now = self.now();
        self.owner.applied(now, notes, db);
        self.carry_out();
        self.owner.has_work()
    }
}

/// Whether a command has a chance to be decided in time. A member that is loading may just have
/// been started.
fn can_commit(registry: Option<&Registry>) -> bool {
    registry.is_none_or(Registry::has_leader)
}
