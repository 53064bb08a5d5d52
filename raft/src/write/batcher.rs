//! Proposes this member's events: one ordered batch in flight, repeated until its outcome is known.
//!
//! A batch is made when the previous one is decided, from what the sessions' [`Owner`] finds missing
//! in the registry at that moment, and from the requests that wait. So what is no longer wanted is
//! never proposed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use raftlookupd_storage::event::{BatchResult, Event, MemberBatch, Refusal};
use raftlookupd_storage::registration::MemberId;
use raftlookupd_storage::registration_db::RegistrationDb;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::cluster::view::View;
use crate::error::Result;
use crate::failure::{Ending, Failure};
use crate::log::registry_state::RegistryState;
use crate::owner::{Room, SharedOwner};
use crate::read::barrier::Barrier;
use crate::read::clock::ClusterClock;
use crate::write::leader_link::LeaderLink;
use crate::write::requests::{Fate, Pending, Requests};
use crate::write::space::{DiskSpace, Level};

/// Room in one batch. The entry that carries it has to reach the followers within a heartbeat
/// interval.
const ROOM: Room = Room {
    first: 0,
    events: 4096,
    bytes: 128 * 1024,
};

/// Pause before a batch is repeated, unless the leader changes.
const RETRY: Duration = Duration::from_millis(20);

/// The sequence number of the first batch of an incarnation.
const FENCE: u64 = 1;

/// Deadline for one attempt to learn the cluster's time and state.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How long it may take until the registry here shows that this member was removed.
const REMOVAL: Duration = Duration::from_secs(2);

/// What the batcher works with.
pub(crate) struct Parts {
    pub(crate) member: MemberId,
    /// Grows when the process starts and when a snapshot replaces the registry.
    pub(crate) incarnation: watch::Receiver<u64>,
    pub(crate) owner: SharedOwner,
    pub(crate) state: Arc<RegistryState>,
    pub(crate) view: View,
    pub(crate) link: LeaderLink,
    pub(crate) barrier: Arc<Barrier>,
    pub(crate) clock: Arc<ClusterClock>,
    pub(crate) failure: Failure,
    pub(crate) space: Arc<DiskSpace>,
}

/// The handle of the batcher.
pub(crate) struct Batcher {
    requests: Requests,
    arrived: Arc<Notify>,
    /// A batch is to be proposed even if it is empty.
    present: AtomicBool,
    /// Events that were committed.
    committed: AtomicU64,
    /// Events in the batch in flight.
    in_flight: AtomicU64,
}

/// A batch in flight, and the callers that wait for its requests.
struct Flight {
    batch: MemberBatch,
    fates: Vec<Fate>,
}

impl Batcher {
    /// Starts the task that sends batches. It ends with [`Batcher::close`], or when it turns out
    /// that another process speaks for this member.
    pub(crate) fn start(parts: Parts, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let batcher = Arc::new(Batcher {
            requests: Requests::default(),
            arrived: parts.owner.waker().clone(),
            present: AtomicBool::new(false),
            committed: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        });
        tasks.spawn(batcher.clone().run(parts));
        batcher
    }

    /// Queues an event behind other requests.
    ///
    /// # Errors
    /// As [`Requests::push`].
    pub(crate) fn submit(&self, event: Event) -> Result<Pending> {
        let pending = self.requests.push(event)?;
        self.arrived.notify_one();
        Ok(pending)
    }

    /// Has a batch proposed, if need be an empty one: it ends this member's absence.
    pub(crate) fn show_presence(&self) {
        self.present.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Has the next batch made: what was held back may be proposed again.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Takes no more requests and sends no more batches.
    pub(crate) fn close(&self) {
        self.requests.close();
        self.arrived.notify_one();
    }

    /// Events that wait to be committed, and events committed since the start.
    pub(crate) fn counts(&self) -> (usize, u64) {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let waiting = self.requests.len() + usize::try_from(in_flight).unwrap_or(usize::MAX);
        (waiting, self.committed.load(Ordering::Relaxed))
    }

    async fn run(self: Arc<Self>, parts: Parts) {
        let mut incarnations = parts.incarnation.clone();
        loop {
            let incarnation = *incarnations.borrow_and_update();
            let ended = tokio::select! {
                biased;
                ended = self.live(&parts, incarnation) => ended,
                changed = incarnations.changed() => changed.is_err(),
            };
            if ended {
                return;
            }
        }
    }

    /// Proposes as this incarnation; `true` if nothing more is to be proposed. Dropped when a new
    /// incarnation begins: what was in flight then is fenced by the first batch of that.
    async fn live(&self, parts: &Parts, incarnation: u64) -> bool {
        // The first batch carries the time, so it must be known.
        if !self.catch_up(parts).await || !self.fence(parts, incarnation).await {
            return true;
        }
        // Earlier incarnations can change nothing from here on; what they did must be visible here.
        if !self.catch_up(parts).await {
            return true;
        }
        let mut sequence = FENCE;
        loop {
            sequence += 1;
            let Some(flight) = self.next_batch(parts, incarnation, sequence).await else {
                return true;
            };
            let Some(result) = self.deliver(parts, &flight.batch).await else {
                return true;
            };
            match result {
                BatchResult::Applied { refused } => self.settle(parts, flight, &refused),
                BatchResult::Superseded => return !self.superseded(parts).await,
            }
        }
    }

    /// Waits until this member knows the cluster's time and state; `false` when closed.
    async fn catch_up(&self, parts: &Parts) -> bool {
        while parts.barrier.wait(CATCH_UP).await.is_err() {
            if self.requests.is_closed() {
                return false;
            }
            parts.view.leader_changed(RETRY).await;
        }
        true
    }

    /// Proposes the first batch of an incarnation, without events; `false` if nothing more is to
    /// be proposed.
    async fn fence(&self, parts: &Parts, incarnation: u64) -> bool {
        let batch = MemberBatch {
            member: parts.member,
            incarnation,
            sequence: FENCE,
            at: parts.clock.now(),
            events: Vec::new(),
        };
        match self.deliver(parts, &batch).await {
            Some(BatchResult::Applied { .. }) => true,
            Some(BatchResult::Superseded) => self.superseded(parts).await,
            None => false,
        }
    }

    /// Ends the member: another process speaks for it, or it was removed.
    async fn superseded(&self, parts: &Parts) -> bool {
        self.close();
        // What the leader has applied may not be applied here yet.
        let removed = async {
            let row = |db: &RegistrationDb| db.member(parts.member).is_some_and(|row| row.removed);
            while !parts.state.read(row) {
                tokio::time::sleep(RETRY).await;
            }
        };
        let ending = match tokio::time::timeout(REMOVAL, removed).await {
            Ok(()) => {
                let node = parts.view.node(parts.member);
                Ending::removed(&node.unwrap_or_default().name)
            }
            Err(_) => {
                let reason = "this member was removed from the cluster, \
                              or another process runs on a copy of its data";
                Ending::Member(reason.into())
            }
        };
        parts.failure.send_replace(Some(ending));
        false
    }

    /// Waits for events; `None` when the batcher is closed.
    async fn next_batch(&self, parts: &Parts, incarnation: u64, sequence: u64) -> Option<Flight> {
        loop {
            if self.requests.is_closed() {
                return None;
            }
            let present = self.present.swap(false, Ordering::AcqRel);
            let at = parts.clock.now();
            // What the owner wants may follow from a request that is not acknowledged yet: a
            // REGISTER that waits while its topic is deleted comes behind the delete.
            let (mut events, fates) = self.requests.take();
            let room = Room {
                first: events.len(),
                ..ROOM
            };
            // While the disk is almost full, what sessions want is held back; requests were
            // checked one by one.
            let has_more = parts.space.level() == Level::Enough && {
                let mut owner = parts.owner.lock();
                let propose = |db: &_| owner.propose(incarnation, sequence, at, room, db);
                events.extend(parts.state.read(propose));
                owner.has_more()
            };
            if !events.is_empty() || present {
                self.in_flight.store(events.len() as u64, Ordering::Relaxed);
                let batch = MemberBatch {
                    member: parts.member,
                    incarnation,
                    sequence,
                    at,
                    events,
                };
                return Some(Flight { batch, fates });
            }
            match has_more {
                true => tokio::task::yield_now().await,
                false => self.arrived.notified().await,
            }
        }
    }

    /// Repeats the batch until a leader answers what became of it; `None` when closed. A new leader
    /// is asked as soon as it is known, since the old one may hang.
    async fn deliver(&self, parts: &Parts, batch: &MemberBatch) -> Option<BatchResult> {
        loop {
            let leader = parts.view.leader();
            let result = tokio::select! {
                result = parts.link.submit(batch) => result,
                () = parts.view.another_leader(leader) => continue,
            };
            if let Some(result) = result {
                return Some(result);
            }
            if self.requests.is_closed() {
                return None;
            }
            parts.view.leader_changed(RETRY).await;
        }
    }

    /// The requests come first in a batch.
    fn settle(&self, parts: &Parts, flight: Flight, refused: &[(u32, Refusal)]) {
        let count = flight.batch.events.len();
        self.in_flight.store(0, Ordering::Relaxed);
        self.committed.fetch_add(count as u64, Ordering::Relaxed);
        let batch = &flight.batch;
        let mut owner = parts.owner.lock();
        owner.committed(batch.incarnation, batch.sequence, refused);
        drop(owner);
        for (position, fate) in (0..).zip(flight.fates) {
            let refusal = refused
                .iter()
                .find(|(refused, _)| usize::try_from(*refused).is_ok_and(|at| at == position));
            // The caller may have stopped waiting.
            let _ = fate.send(refusal.map_or(Ok(()), |(_, refusal)| Err(*refusal)));
        }
    }
}
