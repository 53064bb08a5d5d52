//! The leader's side of a write: merges the members' batches into one log entry at a time.
//!
//! An entry costs each member a sync, however much is in it, so the way to many events a second is
//! many events an entry. While one entry is on its way, the batches that arrive wait; together
//! they are the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raftlookupd_storage::event::{BatchResult, MemberBatch, Proposal};
use raftlookupd_storage::registration::MemberId;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::peer_message::{Declined, Reply};
use crate::types::Raft;

/// Without a quorum openraft may never answer. The members repeat their batches, and repeats
/// are recognised, so giving up on an entry costs nothing.
const GIVE_UP: Duration = Duration::from_secs(2);

/// A quorum answers at once, or is none.
const CONFIRM: Duration = Duration::from_millis(250);

type Waiter = oneshot::Sender<Reply<BatchResult>>;

/// Proposes batches while this member leads.
pub(crate) struct Proposer {
    raft: Raft,
    // One batch a member at most: the queue is bounded by the size of the cluster.
    waiting: Mutex<BTreeMap<MemberId, (MemberBatch, Waiter)>>,
    arrived: Notify,
}

impl Proposer {
    /// Starts the task that proposes.
    pub(crate) fn start(raft: Raft, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let proposer = Arc::new(Proposer {
            raft,
            waiting: Mutex::default(),
            arrived: Notify::new(),
        });
        tasks.spawn(proposer.clone().run());
        proposer
    }

    /// Resolves when the batch is committed; [`Declined::NotLeader`] says that its fate is open
    /// and that it should be repeated, here or at another member.
    pub(crate) async fn submit(&self, batch: MemberBatch) -> Reply<BatchResult> {
        let (waiter, answer) = oneshot::channel();
        // A repeated batch takes the place of the one that its member has given up on.
        self.waiting().insert(batch.member, (batch, waiter));
        self.arrived.notify_one();
        answer.await.unwrap_or(Err(Declined::NotLeader))
    }

    async fn run(self: Arc<Self>) {
        let mut doubtful = false;
        loop {
            if doubtful && !leads(&self.raft).await {
                self.turn_away().await;
                continue;
            }
            let taken = std::mem::take(&mut *self.waiting());
            if taken.is_empty() {
                self.arrived.notified().await;
                continue;
            }
            let (batches, waiters): (Vec<_>, Vec<_>) = taken.into_values().unzip();
            let write = self.raft.client_write(Proposal { batches });
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
                // The member may have stopped waiting; it will ask again.
                let _ = waiter.send(answer);
            }
        }
    }

    /// Without a quorum a proposal would stay in the log, and each repetition of its batches
    /// would add another: the members are told to ask again instead.
    async fn turn_away(&self) {
        let arrived = self.arrived.notified();
        for (_, (_, waiter)) in std::mem::take(&mut *self.waiting()) {
            let _ = waiter.send(Err(Declined::NotLeader));
        }
        arrived.await;
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<MemberId, (MemberBatch, Waiter)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this member leads and hears a quorum, by openraft's own word.
pub(crate) async fn leads(raft: &Raft) -> bool {
    let confirmed = tokio::time::timeout(CONFIRM, raft.ensure_linearizable()).await;
    matches!(confirmed, Ok(Ok(_)))
}
