//! Deletes tables in the background, in small steps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::sled_engine::Engine;
use crate::error::{Error, Result};

/// The number of keys deleted in one step.
const STEP_KEYS: usize = 64;

/// The pause between two steps.
const PAUSE: Duration = Duration::from_millis(1);

/// Has at most one thread, which ends when it is done.
#[derive(Default)]
pub(super) struct Sweeper {
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sweeper {
    /// Starts to delete these tables. Stops an earlier deletion first.
    pub(super) fn sweep(&self, engine: &Engine, names: Vec<String>) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // An earlier deletion is rare. Tables that it had left are in `names` again.
        if let Some(running) = thread.take() {
            self.stopping.store(true, Ordering::Relaxed);
            join(running);
            self.stopping.store(false, Ordering::Relaxed);
        }
        let data_path = engine.gate().data_path().to_path_buf();
        let engine = engine.clone();
        let stopping = self.stopping.clone();
        let started = Builder::new().name("row-sweep".into()).spawn(move || {
            if let Err(error) = sweep_tables(&engine, &names, &stopping) {
                // They only take space; the next start tries again.
                tracing::warn!(%error, "could not delete obsolete registry rows; the next start retries");
            }
        });
        *thread = Some(started.map_err(Error::io("start a thread for", &data_path))?);
        Ok(())
    }

    /// Ends the thread after its current step.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // Set again: another deletion may just have been started.
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(running) = thread.take() {
            join(running);
        }
    }

    /// Waits until everything is deleted.
    #[cfg(test)]
    pub(super) fn finish(&self) {
        if let Some(running) = self.thread.lock().unwrap().take() {
            running.join().unwrap();
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::warn!("the thread that deletes obsolete registry rows panicked");
    }
}

fn sweep_tables(engine: &Engine, names: &[String], stopping: &AtomicBool) -> Result<()> {
    for name in names {
        let table = engine.table(name)?;
        let mut from = Vec::new();
        while let Some(last) = table.remove_some(&from, None, STEP_KEYS)? {
            from = last;
            if stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        engine.drop_table(name)?;
    }
    Ok(())
}
