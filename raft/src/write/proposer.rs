//! Merges, at the leader, the members' batches and the leader's own events into one log entry at a
//! time.
//!
//! An entry costs each member a sync, however much is in it, so throughput comes from many events per
//! entry. The batches that arrive while an entry is in flight form the next one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raftlookupd_storage::event::{BatchResult, Event, MemberBatch, Proposal};
use raftlookupd_storage::registration::MemberId;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::peer::message::{Declined, Reply};
use crate::types::Raft;

/// Deadline for one entry: without a quorum openraft may never answer. The members repeat their
/// batches, and repeats are recognised, so giving up on an entry costs nothing.
const GIVE_UP: Duration = Duration::from_secs(2);

/// Deadline for confirming that this member leads.
const CONFIRM: Duration = Duration::from_millis(250);

type Waiter<T> = oneshot::Sender<Reply<T>>;

/// What the next entry will carry, if there is one.
#[derive(Default)]
struct Waiting {
    /// At most one batch per member: bounded by the size of the cluster.
    batches: BTreeMap<MemberId, (MemberBatch, Waiter<BatchResult>)>,
    /// Callers wait for the answer, so their number is the bound.
    own: Vec<(Vec<Event>, Waiter<()>)>,
}

/// Proposes while this member leads.
pub(crate) struct Proposer {
    raft: Raft,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    held: AtomicBool,
}

impl Proposer {
    /// Starts the task that proposes.
    pub(crate) fn start(raft: Raft, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let proposer = Arc::new(Proposer {
            raft,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            held: AtomicBool::new(false),
        });
        tasks.spawn(proposer.clone().run());
        proposer
    }

    /// Resolves when the batch is committed. [`Declined::NotLeader`]: the outcome is unknown, and the
    /// batch should be repeated, here or at another member.
    pub(crate) async fn submit(&self, batch: MemberBatch) -> Reply<BatchResult> {
        let (waiter, answer) = oneshot::channel();
        // A repeated batch replaces the one that its member has given up on.
        let repeated = (batch.member, (batch, waiter));
        self.waiting().batches.extend([repeated]);
        self.arrived.notify_one();
        answer.await.unwrap_or(Err(Declined::NotLeader))
    }

    /// Proposes the leader's own events. Resolves when they are committed; with
    /// [`Declined::NotLeader`] they most likely never will be.
    pub(crate) async fn submit_own(&self, events: Vec<Event>) -> Reply<()> {
        let (waiter, answer) = oneshot::channel();
        self.waiting().own.push((events, waiter));
        self.arrived.notify_one();
        answer.await.unwrap_or(Err(Declined::NotLeader))
    }

    /// Declines all batches while another member is about to lead; their members repeat them there.
    pub(crate) fn hold(&self, hold: bool) {
        self.held.store(hold, Ordering::Release);
        self.arrived.notify_one();
    }

    async fn run(self: Arc<Self>) {
        let mut doubtful = false;
        loop {
            if self.held.load(Ordering::Acquire) {
                self.turn_away().await;
                continue;
            }
            if doubtful && !leads(&self.raft).await {
                self.turn_away().await;
                continue;
            }
            let taken = std::mem::take(&mut *self.waiting());
            if taken.batches.is_empty() && taken.own.is_empty() {
                self.arrived.notified().await;
                continue;
            }
            let (batches, waiters): (Vec<_>, Vec<_>) = taken.batches.into_values().unzip();
            let (own, its_waiters): (Vec<_>, Vec<_>) = taken.own.into_iter().unzip();
            let own = own.concat();
            let write = self.raft.client_write(Proposal { batches, own });
            let written = tokio::time::timeout(GIVE_UP, write).await;
            doubtful = !matches!(written, Ok(Ok(_)));
            let results = match written {
                Ok(Ok(response)) => response.data.results,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "proposal failed");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            };
            let mut results = results.into_iter().map(Ok);
            for waiter in waiters {
                let answer = results.next().unwrap_or(Err(Declined::NotLeader));
                // The member may have stopped waiting; it will repeat the batch.
                let _ = waiter.send(answer);
            }
            for waiter in its_waiters {
                let answer = if doubtful {
                    Err(Declined::NotLeader)
                } else {
                    Ok(())
                };
                let _ = waiter.send(answer);
            }
        }
    }

    /// Without a quorum a proposal would stay in the log, and each repetition of its batches would add
    /// another one. So they are declined, for the members to repeat them.
    async fn turn_away(&self) {
        let arrived = self.arrived.notified();
        let turned_away = std::mem::take(&mut *self.waiting());
        for (_, waiter) in turned_away.batches.into_values() {
            let _ = waiter.send(Err(Declined::NotLeader));
        }
        for (_, waiter) in turned_away.own {
            let _ = waiter.send(Err(Declined::NotLeader));
        }
        arrived.await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this member leads with a quorum, confirmed by openraft with a round of heartbeats.
pub(crate) async fn leads(raft: &Raft) -> bool {
    let confirmed = tokio::time::timeout(CONFIRM, raft.ensure_linearizable()).await;
    matches!(confirmed, Ok(Ok(_)))
}
