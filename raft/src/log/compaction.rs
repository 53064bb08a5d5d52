//! Keeps the log short in bytes (openraft only counts entries), and watches the store.

use std::time::Duration;

use raftlookupd_storage::log_table::LogTable;

use crate::failure::{Ending, Failure};
use crate::types::Raft;

/// Interval between checks of the log's size.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a snapshot may take before it is requested again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the member as soon as writes to the store have stopped, even if nothing is to be written.
pub(crate) async fn watch_store(log: LogTable, failure: Failure) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Some(reason) = log.failure() {
            failure.send_replace(Some(Ending::Storage(reason)));
            return;
        }
    }
}

/// Has the log purged up to the last applied entry whenever it is longer than this many bytes.
pub(crate) async fn compact_log(raft: Raft, log: LogTable, longest: u64) {
    let metrics = raft.metrics();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let bytes = log.live_bytes();
        if bytes <= longest {
            continue;
        }
        let applied = metrics.borrow().last_applied;
        let Some(applied) = applied else { continue };
        tracing::info!(
            bytes,
            upto = applied.index,
            "taking a snapshot because the log is long"
        );
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let waiting = raft.wait(Some(PATIENCE));
        let taken = waiting.metrics(
            |metrics| metrics.snapshot >= Some(applied),
            "the snapshot that shortens the log",
        );
        if taken.await.is_ok() && raft.trigger().purge_log(applied.index).await.is_err() {
            return;
        }
    }
}
