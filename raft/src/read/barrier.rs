//! Proves that the next local read is at least as new as the request.
//!
//! Requests share rounds: one that arrives while a round is under way joins the next. A round
//! (`read_round`) finds the read index and waits until this member has applied that far.

use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::cluster::view::View;
use crate::error::{Error, Result};
use crate::log::registry_state::RegistryState;
use crate::read::round::ReadRound;

/// Pause after a round that failed.
const RETRY: Duration = Duration::from_millis(20);

/// A member that has not applied the read index by then is too far behind to answer.
const CATCH_UP: Duration = Duration::from_millis(500);

/// After this long without a successful round, requests are refused at once: this is more than an
/// election.
const HOPELESS: Duration = Duration::from_secs(3);

/// Pause between rounds without callers, which probe until one succeeds again.
const PROBE: Duration = Duration::from_millis(100);

/// Confirms reads for one member.
pub(crate) struct Barrier {
    state: Arc<RegistryState>,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    arrived: Notify,
    progress: Mutex<Progress>,
}

struct Progress {
    /// The start of the last round that succeeded: what is read here is at least that new.
    confirmed: Instant,
    /// Since when every round has failed.
    failing_since: Option<Instant>,
}

impl Barrier {
    /// Starts the task that makes rounds.
    pub(crate) fn start(
        rounds: ReadRound,
        view: View,
        state: Arc<RegistryState>,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let barrier = Arc::new(Barrier {
            state,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            progress: Mutex::new(Progress {
                confirmed: Instant::now(),
                failing_since: None,
            }),
        });
        tasks.spawn(barrier.clone().run(rounds, view));
        barrier
    }

    /// After `Ok` a read shows everything that was acknowledged anywhere before this call.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] after the deadline, or at once when rounds have failed for seconds.
    pub(crate) async fn wait(&self, deadline: Duration) -> Result<()> {
        let failing_since = self.progress().failing_since;
        if failing_since.is_some_and(|since| since.elapsed() > HOPELESS) {
            return Err(Error::NoQuorum);
        }
        let (done, confirmed) = oneshot::channel();
        self.waiting().push(done);
        self.arrived.notify_one();
        match tokio::time::timeout(deadline, confirmed).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::NoQuorum),
        }
    }

    /// When this member last knew that it had missed nothing.
    pub(crate) fn confirmed(&self) -> Instant {
        self.progress().confirmed
    }

    async fn run(self: Arc<Self>, rounds: ReadRound, view: View) {
        let mut joined = Vec::new();
        loop {
            let hopeless = self.progress().failing_since.is_some();
            joined.append(&mut self.waiting());
            joined.retain(|waiter| !waiter.is_closed());
            if joined.is_empty() && !hopeless {
                self.arrived.notified().await;
                continue;
            }
            let started = Instant::now();
            if self.round(&rounds).await {
                let mut progress = self.progress();
                progress.confirmed = started;
                progress.failing_since = None;
                drop(progress);
                for waiter in joined.drain(..) {
                    // The caller may have given up.
                    let _ = waiter.send(());
                }
            } else {
                // Not from its start: this process may have been suspended during it.
                let now = Instant::now();
                self.progress().failing_since.get_or_insert(now);
                let pause = if joined.is_empty() { PROBE } else { RETRY };
                view.leader_changed(pause).await;
            }
        }
    }

    async fn round(&self, rounds: &ReadRound) -> bool {
        let Some(index) = rounds.index().await else {
            return false;
        };
        let applied = self.state.wait_applied(index);
        matches!(tokio::time::timeout(CATCH_UP, applied).await, Ok(true))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
