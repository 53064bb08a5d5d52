//! Shares the owner of this member's sessions between all connections and the registry: delivers
//! answers to the commands that wait for them, and makes barriers.
//!
//! Lock order: the owner, then the registry; the state machine keeps to it as well.

mod registry_owner;
mod shared;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_raft::Registry;
use raftlookupd_raft::owner::SharedOwner;
use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};
use raftlookupd_raft::storage::registration_db::RegistrationDb;
use tokio::sync::{Notify, oneshot, watch};

use crate::metrics::{Metrics, SessionCounts};
use crate::nsqd::owner::{CloseReason, Now, Owner, Reply, SessionId, Settings, Ticket, Verdict};
use shared::Shared;

/// The owner looks at all producers in eight ticks, so a timeout is detected within a tenth of it.
const TICKS_PER_TIMEOUT: u32 = 80;

/// The bounds of the time between two ticks.
const LONGEST_TICK: Duration = Duration::from_millis(125);
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// Keeps the sessions of one member. Clones share them.
#[derive(Clone)]
pub(crate) struct Keeper {
    shared: Arc<Mutex<Shared>>,
    waker: Arc<Notify>,
    registry: watch::Receiver<Option<Registry>>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keeper")
    }
}

/// An open session, for its connection.
pub(crate) struct Opened {
    pub(crate) session: SessionId,
    /// Resolves when this member ends the session.
    pub(crate) closed: oneshot::Receiver<CloseReason>,
}

impl Keeper {
    /// A keeper without sessions. The registry loads later.
    pub(crate) fn new(
        timeout: Duration,
        registry: watch::Receiver<Option<Registry>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared = Shared::new(Settings::with_timeout(timeout), metrics);
        Keeper {
            shared: Arc::new(Mutex::new(shared)),
            waker: Arc::default(),
            registry,
        }
    }

    /// The owner, for the registry to call.
    pub(crate) fn for_registry(&self) -> SharedOwner {
        SharedOwner::new(self.shared.clone(), self.waker.clone())
    }

    /// Ticks the owner for as long as the member runs.
    pub(crate) async fn run(self, timeout: Duration) {
        let tick = (timeout / TICKS_PER_TIMEOUT).clamp(SHORTEST_TICK, LONGEST_TICK);
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let registry = self.registry();
            let discarded = {
                let mut shared = self.lock();
                shared.begin_tick();
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

    /// IDENTIFY. Waits briefly for the attachment.
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
            (session, self.follow(&mut shared, reply, None))
        };
        self.wait(reply).await;
        Opened { session, closed }
    }

    /// REGISTER. The future resolves with its verdict.
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

    /// UNREGISTER. The future resolves with its verdict. Earlier commands must have been answered.
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

    /// The connection has ended. Waits briefly until what it registered is gone.
    pub(crate) async fn close(&self, session: SessionId) {
        self.lock().connections.remove(&session);
        let closed =
            self.command(|owner, now, _, can_commit| owner.close(now, session, can_commit));
        self.wait(closed).await;
    }

    /// The sessions' part of the metrics.
    pub(crate) fn counts(&self) -> SessionCounts {
        let registry = self.registry();
        let shared = self.lock();
        let counts = match &registry {
            Some(registry) => registry.read(|db| shared.owner.counts(Some(db))),
            None => shared.owner.counts(None),
        };
        SessionCounts {
            surplus: counts.surplus_sessions,
            undecided_bytes: counts.undecided_bytes,
            inherited: counts.inherited,
            repairs: counts.repairs,
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
        self.follow(&mut shared, reply, None)
    }

    fn answer_to(&self, awaited: Awaited) -> impl Future<Output = Verdict> + Send + use<> {
        let keeper = self.clone();
        async move { keeper.wait(awaited).await }
    }

    /// Prepares to wait for a reply, until then if given. The lock is still held, so it cannot be
    /// answered before.
    fn follow(&self, shared: &mut Shared, reply: Reply, until: Option<Instant>) -> Awaited {
        self.carry_out(shared);
        let deadline = |patience| until.unwrap_or_else(|| Instant::now() + patience);
        match reply {
            Reply::Now(verdict) => Awaited::Now(verdict),
            Reply::Confirm(ticket, patience) => Awaited::Barrier {
                ticket: self.held(ticket),
                until: deadline(patience),
            },
            Reply::Wait(ticket, patience) => {
                let (answer, awaited) = oneshot::channel();
                shared.tickets.insert(ticket, answer);
                Awaited::Answer {
                    ticket: self.held(ticket),
                    awaited,
                    until: deadline(patience),
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
                    // The deadline has passed, or the session was closed.
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
        // One command, one deadline: nsqd waits for a second.
        Ok(self.follow(&mut shared, reply, Some(until)))
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

/// A ticket that expires if the task that waits for it is dropped.
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

/// Whether a command may be decided in time. A member that is loading may be about to finish.
fn can_commit(registry: Option<&Registry>) -> bool {
    registry.is_none_or(|registry| registry.has_leader() && !registry.is_read_only())
}
