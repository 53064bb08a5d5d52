//! Runs Raft and the peers on threads of their own, so that neither sockets of clients nor long
//! answers delay heartbeats, and applying delays no client.

use std::num::NonZero;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, Result};

/// The most threads that are of use: one drives Raft and its sockets while another applies.
const MOST_THREADS: usize = 2;

/// Half of the processors: where there are two, a second thread only adds changes between them to
/// the latency of each write. Applying pauses every few hundred microseconds.
fn threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    (processors / 2).clamp(1, MOST_THREADS)
}

/// A runtime that ends when it is dropped, without waiting for what still runs.
pub(crate) struct RaftRuntime(Option<Runtime>);

impl RaftRuntime {
    /// # Errors
    /// [`Error::Fatal`] if the threads cannot be started.
    pub(crate) fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads())
            .thread_name("raft")
            .enable_all()
            .build()
            .map_err(|error| Error::Fatal(format!("no threads for raft: {error}")))?;
        Ok(RaftRuntime(Some(runtime)))
    }

    /// Runs a future there. Dropping what is returned ends it.
    ///
    /// # Errors
    /// [`Error::Fatal`] if it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        handle: &Handle,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let task = AbortOnDrop(handle.spawn(work));
        let mut task = task;
        let ended = (&mut task.0).await;
        ended.map_err(|error| Error::Fatal(error.to_string()))
    }

    pub(crate) fn handle(&self) -> Result<Handle> {
        let runtime = self.0.as_ref();
        runtime
            .map(|runtime| runtime.handle().clone())
            .ok_or(Error::Stopping)
    }
}

impl Drop for RaftRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs work that blocks on a thread of its own.
///
/// # Errors
/// Those of the work; [`Error::Fatal`] if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Fatal(error.to_string())))
}
