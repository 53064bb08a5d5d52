//! Runs the log's thread: syncs appends, advances the durable mark, removes purged segments.

use std::io::Error as IoError;
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::shared::Shared;
use super::state::{Done, State};
use crate::error::{Error, Result};

/// How far the durable mark may lag behind new entries.
const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the thread. It ends, with everything synced, after `closing` was set.
pub(super) fn start(shared: Arc<Shared>) -> Result<JoinHandle<Result<()>>> {
    let data_path = shared.gate.data_path().to_path_buf();
    Builder::new()
        .name("log-sync".into())
        .spawn(move || {
            // However the thread ends, also by a panic: without it nothing becomes durable.
            let _stop = StopOnDrop(shared.clone());
            Worker::new(shared).run()
        })
        .map_err(Error::io("start a thread for", &data_path))
}

struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.gate.close("the log's sync thread panicked");
        }
        let pending = {
            let mut state = self.0.state();
            state.closing = true;
            std::mem::take(&mut state.pending)
        };
        for done in pending {
            done(Err(IoError::other("the store was closed")));
        }
    }
}

/// The next job, most urgent first.
enum Job {
    Sync {
        pending: Vec<Done>,
        epoch: u64,
        end: Option<u64>,
    },
    Mark,
    /// Remove the oldest segment; those before this one are not needed.
    Sweep {
        before: u64,
    },
    End,
}

struct Worker {
    shared: Arc<Shared>,
    mark_due: Instant,
    /// That segments before this one are not needed is durable.
    sweep_before: u64,
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Worker {
        Worker {
            shared,
            mark_due: Instant::now() + MARK_INTERVAL,
            sweep_before: 0,
        }
    }

    fn run(mut self) -> Result<()> {
        loop {
            let outcome = match self.next_job() {
                Job::Sync {
                    pending,
                    epoch,
                    end,
                } => self.sync(pending, epoch, end),
                Job::Mark => {
                    // The log is as durable as before; only damage might go unnoticed. Retried when
                    // the mark is due again.
                    if let Err(error) = self.mark() {
                        tracing::warn!(%error, "could not advance the durable mark; retrying");
                    }
                    Ok(())
                }
                Job::Sweep { before } => self.sweep(before),
                Job::End => return self.end(),
            };
            if let Err(error) = outcome {
                // Later appends fail with this reason, so the failure does not go unnoticed.
                tracing::error!(%error, "log writes stopped");
                self.shared.gate.close(&error.to_string());
            }
        }
    }

    fn next_job(&self) -> Job {
        let mut state = self.shared.state();
        loop {
            let now = Instant::now();
            let healthy = self.shared.gate.check().is_ok();
            let mark =
                (healthy && self.shared.mark.is_behind(state.synced)).then_some(self.mark_due);
            // Appends go first, unless they leave no gap.
            if mark.is_some_and(|due| now >= due + MARK_INTERVAL) {
                return Job::Mark;
            }
            if !state.pending.is_empty() {
                return Job::Sync {
                    pending: std::mem::take(&mut state.pending),
                    epoch: state.epoch,
                    end: state.end(),
                };
            }
            if state.closing {
                return Job::End;
            }
            if mark.is_some_and(|due| now >= due) {
                return Job::Mark;
            }
            // One segment at a time, so that appends are not delayed.
            if healthy && let Some(before) = self.unneeded(&state) {
                return Job::Sweep { before };
            }
            let wake = &self.shared.wake;
            state = match mark {
                None => wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let woken = wake.wait_timeout(state, due.saturating_duration_since(now));
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The first segment that is needed, if there are any before it.
    fn unneeded(&self, state: &State) -> Option<u64> {
        let (oldest, last) = self.shared.segments.range();
        state.first_needed(last).filter(|needed| oldest < *needed)
    }

    /// Syncs once for all pending appends.
    fn sync(&mut self, pending: Vec<Done>, epoch: u64, end: Option<u64>) -> Result<()> {
        let outcome = self.sync_upto(epoch, end);
        for done in pending {
            done(match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(IoError::other(error.to_string())),
            });
        }
        outcome
    }

    fn sync_upto(&mut self, epoch: u64, end: Option<u64>) -> Result<()> {
        self.shared.segments.sync()?;
        let mut state = self.shared.state();
        // After a truncation, another entry may be at that index, not yet synced.
        if state.epoch == epoch {
            if !self.shared.mark.is_behind(state.synced) {
                self.mark_due = Instant::now() + MARK_INTERVAL;
            }
            state.note_synced(end);
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        // Also after a failure: syncs come first.
        self.mark_due = Instant::now() + MARK_INTERVAL;
        let shared = &self.shared;
        shared.mark.raise(|| shared.state().synced)
    }

    fn sweep(&mut self, before: u64) -> Result<()> {
        if before > self.sweep_before {
            // The purge point must be durable first. What made the entries unneeded is.
            self.shared.segments.sync()?;
            self.sweep_before = before;
        }
        self.shared.segments.remove_oldest()
    }

    /// Syncs what was written, and the mark that goes with it.
    fn end(&mut self) -> Result<()> {
        let (epoch, end) = {
            let state = self.shared.state();
            (state.epoch, state.end())
        };
        self.sync_upto(epoch, end)?;
        self.mark()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_sync_from_before_a_truncation_promises_nothing_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let log = store.log();
        let entries = (0..5).map(|index| (index, vec![1]));
        log.append(entries.collect(), |_| {}).unwrap();
        // The view of a sync that starts now and ends after the truncation:
        let epoch = log.shared.state().epoch;
        let end = log.shared.state().end();
        log.truncate(2).unwrap();

        let mut worker = Worker::new(log.shared.clone());
        worker.sync_upto(epoch, end).unwrap();
        assert_eq!(log.shared.state().synced, Some(1));
        let epoch = log.shared.state().epoch;
        worker.sync_upto(epoch, Some(1)).unwrap();
        assert_eq!(log.shared.state().synced, Some(1));
    }
}
