//! The thread behind the log: makes appends durable, advances the mark, deletes what is purged.

use std::io::Error as IoError;
use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::entry_chunks::first_key;
use super::state::Done;
use super::{Inner, STEP_KEYS};
use crate::error::{Error, Result};

/// How old the durable mark may get while there is something new.
const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two deletion steps, so that others get their turn.
const SWEEP_PAUSE: Duration = Duration::from_millis(1);

/// Starts the thread. It ends, with everything synced, after `closing` was set.
pub(super) fn start(inner: Arc<Inner>) -> Result<JoinHandle<Result<()>>> {
    let data_path = inner.engine.data_path().to_path_buf();
    Builder::new()
        .name("log-sync".into())
        .spawn(move || {
            // However the thread ends, by panic too: without it nothing becomes durable.
            let _stop = StopOnDrop(inner.clone());
            Worker::new(inner).run()
        })
        .map_err(Error::io("start a thread for", &data_path))
}

struct StopOnDrop(Arc<Inner>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.engine.stop("the thread that syncs the log panicked");
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

/// What to do next, most urgent first.
enum Job {
    Sync {
        pending: Vec<Done>,
        epoch: u64,
        end: Option<u64>,
    },
    Mark,
    Sweep {
        upto: u64,
    },
    End,
}

/// The deletion under way.
struct Sweep {
    upto: u64,
    /// Everything before this key is deleted. Saves walking over what is gone.
    from: Vec<u8>,
}

struct Worker {
    inner: Arc<Inner>,
    mark_due: Instant,
    sweep_due: Instant,
    sweep: Option<Sweep>,
}

impl Worker {
    fn new(inner: Arc<Inner>) -> Worker {
        let now = Instant::now();
        Worker {
            inner,
            mark_due: now + MARK_INTERVAL,
            sweep_due: now,
            sweep: None,
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
                    // Without it the log is as durable as before, only less of a damage would be
                    // noticed; tried again at the next turn.
                    if let Err(error) = self.mark() {
                        tracing::warn!(%error, "the durable mark is not advanced");
                    }
                    Ok(())
                }
                Job::Sweep { upto } => self.sweep(upto),
                Job::End => return self.end(),
            };
            if let Err(error) = outcome {
                // Appends that follow fail with this reason, so nothing goes unnoticed.
                tracing::error!(%error, "the log is not written any more");
                self.inner.engine.stop(&error.to_string());
            }
        }
    }

    fn next_job(&self) -> Job {
        let mut state = self.inner.state();
        loop {
            let now = Instant::now();
            let healthy = self.inner.engine.check_writable().is_ok();
            let mark =
                (healthy && self.inner.mark.is_behind(state.synced)).then_some(self.mark_due);
            // The mark goes behind the appends, unless they never leave it a gap.
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
            let upto = state.purged_index().filter(|_| healthy && state.sweep);
            if let Some(upto) = upto
                && now >= self.sweep_due
            {
                return Job::Sweep { upto };
            }
            let next = [mark, upto.map(|_| self.sweep_due)]
                .into_iter()
                .flatten()
                .min();
            let wake = &self.inner.wake;
            state = match next {
                None => wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let woken = wake.wait_timeout(state, due.saturating_duration_since(now));
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// One sync for all appends that came together.
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
        self.inner.engine.sync()?;
        let mut state = self.inner.state();
        // After a truncation another entry may stand at that index, not yet synced.
        if state.epoch == epoch {
            if !self.inner.mark.is_behind(state.synced) {
                self.mark_due = Instant::now() + MARK_INTERVAL;
            }
            state.synced = state.synced.max(end);
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        let inner = &self.inner;
        inner.mark.raise(|| inner.state().synced)?;
        self.mark_due = Instant::now() + MARK_INTERVAL;
        Ok(())
    }

    /// Deletes a few purged keys.
    fn sweep(&mut self, upto: u64) -> Result<()> {
        if self.sweep.as_ref().is_none_or(|sweep| sweep.upto != upto) {
            // First of all the purge point must be durable, and what made the entries unneeded.
            let (epoch, end) = {
                let state = self.inner.state();
                (state.epoch, state.end())
            };
            self.sync_upto(epoch, end)?;
            let from = self.sweep.take().map_or_else(Vec::new, |sweep| sweep.from);
            self.sweep = Some(Sweep { upto, from });
        }
        let Some(sweep) = &mut self.sweep else {
            return Ok(());
        };
        let end = upto.checked_add(1).map(first_key);
        let end = end.as_ref().map(|key| key.as_slice());
        match self
            .inner
            .entries
            .remove_some(&sweep.from, end, STEP_KEYS)?
        {
            Some(last) => sweep.from = last,
            None => {
                let mut state = self.inner.state();
                // Another purge may have come meanwhile.
                state.sweep = state.purged_index() != Some(upto);
            }
        }
        self.sweep_due = Instant::now() + SWEEP_PAUSE;
        Ok(())
    }

    /// What is written by now, the registry's rows too, and the mark that goes with it.
    fn end(&mut self) -> Result<()> {
        let (epoch, end) = {
            let state = self.inner.state();
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
        // What a sync would have seen that begins now, and ends after this:
        let epoch = log.0.state().epoch;
        let end = log.0.state().end();
        log.truncate(2).unwrap();

        let mut worker = Worker::new(log.0.clone());
        worker.sync_upto(epoch, end).unwrap();
        assert_eq!(log.0.state().synced, Some(1));
        let epoch = log.0.state().epoch;
        worker.sync_upto(epoch, Some(1)).unwrap();
        assert_eq!(log.0.state().synced, Some(1));
    }
}
