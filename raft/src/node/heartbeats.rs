//! Sends heartbeats to one follower without waiting for the answers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use raftlookupd_storage::registration::MemberId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::types::{TypeConfig, Vote};

/// A call that is under way.
pub(crate) type Calling<E> = Pin<Box<dyn Future<Output = Result<Answer, E>> + Send>>;

/// Makes a call.
pub(crate) type Caller<E> = dyn Fn(Append) -> Calling<E> + Send + Sync;

/// The answer to an AppendEntries.
pub(crate) type Answer = AppendEntriesResponse<MemberId>;
/// An AppendEntries.
pub(crate) type Append = AppendEntriesRequest<TypeConfig>;

/// The most calls that are under way: the follower, or the way to it, is slow or gone.
const MOST: usize = 4;

/// The heartbeats to one follower; they end with this.
pub(crate) struct Heartbeats {
    calls: Mutex<JoinSet<()>>,
    next: Arc<Mutex<Option<Append>>>,
    /// The follower goes by a higher vote than its leader's.
    higher: watch::Sender<Option<Vote>>,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Heartbeats {
            calls: Mutex::default(),
            next: Arc::default(),
            higher: watch::Sender::new(None),
        }
    }
}

impl Heartbeats {
    /// Sends one, now or when another has been answered; of several that wait the last is sent.
    pub(crate) fn beat<E: Send + 'static>(&self, request: Append, caller: &Arc<Caller<E>>) {
        *locked(&self.next) = Some(request);
        let mut calls = locked(&self.calls);
        while calls.try_join_next().is_some() {}
        if calls.len() == MOST {
            return;
        }
        let (next, higher, caller) = (self.next.clone(), self.higher.clone(), caller.clone());
        calls.spawn(async move {
            loop {
                let Some(request) = locked(&next).take() else {
                    return;
                };
                if let Ok(Answer::HigherVote(vote)) = caller(request).await {
                    higher.send_replace(Some(vote));
                }
            }
        });
    }

    /// The vote by which the follower refuses its leader, if it does.
    pub(crate) fn higher_vote(&self) -> Option<Vote> {
        *self.higher.borrow()
    }

    /// Waits for such a vote.
    pub(crate) async fn refused(&self) -> Vote {
        let mut higher = self.higher.subscribe();
        loop {
            if let Some(vote) = *higher.borrow_and_update() {
                return vote;
            }
            if higher.changed().await.is_err() {
                // Not while `self` is there.
                std::future::pending().await
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
