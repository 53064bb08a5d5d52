//! Takes snapshots, has the log purged behind them, and watches the store.
//!
//! The log is purged up to the snapshot before the newest one: a member that was away for a moment
//! then needs no snapshot, and a damaged newest file is not the end.

use std::time::{Duration, Instant};

use raftlookupd_storage::log_table::LogTable;
use raftlookupd_storage::snapshots::SnapshotFiles;

use crate::failure::{Ending, Failure};
use crate::types::{LogId, Raft, RaftMetrics};

/// Interval between checks of the store.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between checks of the log's length.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long a snapshot may take before it is requested again, and the pause after one that failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Snapshots up to this size are taken whenever there are enough new entries.
const SMALL_SNAPSHOT: u64 = 1024 * 1024;

/// The log must have grown by one part in this many of a larger one: what snapshots write stays in
/// proportion to what the log writes.
const GROWTH: u64 = 4;

/// How often the newest snapshot file is checked for silent damage.
const SCRUB_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Ends the member as soon as writes to the store have stopped, even if nothing is to be written.
/// Reports a sync that hangs: after a second, two, four, and so on.
pub(crate) async fn watch_store(log: LogTable, failure: Failure) {
    let mut reported = WATCH_INTERVAL;
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        match log.sync_running_for() {
            Some(running) if running >= reported => {
                let seconds = running.as_secs();
                tracing::warn!(
                    seconds,
                    "disk sync has not finished: nothing is acknowledged"
                );
                reported = 2 * running;
            }
            Some(_) => {}
            None => reported = WATCH_INTERVAL,
        }
        if let Some(reason) = log.failure() {
            failure.send_replace(Some(Ending::Storage(reason)));
            return;
        }
    }
}

/// What the log is compacted by.
pub(crate) struct Compaction {
    pub(crate) raft: Raft,
    pub(crate) log: LogTable,
    pub(crate) snapshots: SnapshotFiles,
    /// Entries between two snapshots.
    pub(crate) entries: u64,
    /// Bytes of log between two snapshots.
    pub(crate) bytes: u64,
}

/// Entries that were applied since the last snapshot.
fn applied_since_snapshot(metrics: &RaftMetrics) -> u64 {
    let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
    index(metrics.last_applied).saturating_sub(index(metrics.snapshot))
}

impl Compaction {
    /// Takes snapshots until the member stops.
    pub(crate) async fn run(self) {
        // The log that is kept behind the newest snapshot.
        let mut kept = 0;
        let mut scrubbed: Option<Instant> = None;
        // openraft takes none while nothing has been applied since the last one.
        let mut damaged = false;
        loop {
            tokio::time::sleep(INTERVAL).await;
            if scrubbed.is_none_or(|scrubbed| scrubbed.elapsed() > SCRUB_INTERVAL) {
                scrubbed = Some(Instant::now());
                damaged |= self.newest_is_damaged().await;
            }
            let bytes = self.log.live_bytes();
            kept = bytes.min(kept);
            let metrics = self.raft.metrics().borrow().clone();
            let replaces = damaged && applied_since_snapshot(&metrics) > 0;
            if !replaces && !self.is_due(&metrics, bytes - kept) {
                continue;
            }
            if self.compact(&metrics).await.is_none() {
                return;
            }
            damaged = false;
            kept = self.log.live_bytes();
        }
    }

    fn is_due(&self, metrics: &RaftMetrics, grown: u64) -> bool {
        let entries = applied_since_snapshot(metrics);
        if entries == 0 {
            return false;
        }
        let newest = self.snapshots.newest();
        let size = newest.and_then(|newest| self.snapshots.bytes(newest).ok());
        let size = size.unwrap_or(0);
        let worthwhile = size <= SMALL_SNAPSHOT || grown >= size / GROWTH;
        grown > self.bytes || (entries >= self.entries && worthwhile)
    }

    /// Checks the newest file, and stops counting it if it is damaged.
    async fn newest_is_damaged(&self) -> bool {
        let snapshots = self.snapshots.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let newest = snapshots.newest()?;
            let error = snapshots.open_whole(newest).err()?;
            tracing::warn!(index = newest, %error, "a snapshot file is damaged: taking another");
            snapshots.set_aside(newest);
            Some(())
        });
        matches!(checked.await, Ok(Some(())))
    }

    /// Takes a snapshot, and purges the log up to the one before. `None` if Raft has ended.
    async fn compact(&self, metrics: &RaftMetrics) -> Option<()> {
        self.raft.trigger().snapshot().await.ok()?;
        let waiting = self.raft.wait(Some(PATIENCE));
        let applied = metrics.last_applied;
        let taken = waiting.metrics(
            |metrics| metrics.snapshot >= applied,
            "the snapshot that shortens the log",
        );
        if taken.await.is_ok()
            && let Some(upto) = self.snapshots.second_newest()
        {
            self.raft.trigger().purge_log(upto).await.ok()?;
        }
        Some(())
    }
}
