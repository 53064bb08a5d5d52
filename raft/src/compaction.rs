//! Keeps the log short in bytes; openraft itself only counts entries.

use std::time::Duration;

use raftlookupd_storage::log_table::LogTable;

use crate::types::Raft;

/// How often the log's size is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a snapshot may take before it is asked for again.
const PATIENCE: Duration = Duration::from_secs(30);

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
            "the log is long: taking a snapshot"
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
