//! Tracks how much of the log is durable, and lets callers wait for an index.
//!
//! openraft 0.9 blocks while an append waits for the disk, and sends the entries to the followers
//! only then: a write takes the leader's sync and a follower's, one after the other. So openraft is
//! told that entries are flushed as soon as they can be read, and what depends on the disk waits
//! here instead:
//!
//! - a follower's answer that it has entries (`peer_service`),
//! - a leader's announcement that entries are committed (`network`),
//! - their application, and with it every acknowledgement (`state_machine`).
//!
//! openraft may count a leader's own copy too early, but nothing is announced before that copy is
//! durable (Ongaro's thesis, 10.2.1, does the same). One thing follows: a leader that crashed may
//! have lost entries that followers have. It must never continue in the same term, where it would
//! put other entries in their place. See [`LogStore`](crate::log::log_store::LogStore)'s `read_vote`.

use std::io::Result as IoResult;
use std::sync::Arc;

use tokio::sync::watch;

/// Writes to the log have stopped, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SyncFailed(String);

/// Clones share it.
#[derive(Clone)]
pub(crate) struct DurableIndex(Arc<watch::Sender<End>>);

#[derive(Default)]
struct End {
    /// Entries before this index can be read.
    written: u64,
    /// Entries before this index survive a crash.
    durable: u64,
    /// Counts truncations: a sync that began before one proves nothing about entries after it.
    epoch: u64,
    failed: Option<String>,
}

impl DurableIndex {
    /// For a log whose entries before this index are durable.
    pub(crate) fn new(next: u64) -> Self {
        let end = End {
            written: next,
            durable: next,
            ..End::default()
        };
        DurableIndex(Arc::new(watch::Sender::new(end)))
    }

    /// Waits until what the log has up to and including this index is durable.
    ///
    /// # Errors
    /// Writes to the log have stopped: it never will be.
    pub(crate) async fn reaches(&self, index: u64) -> Result<(), SyncFailed> {
        let mut end = self.0.subscribe();
        let there = |end: &End| {
            end.failed.is_some() || end.durable >= end.written.min(index.saturating_add(1))
        };
        let Ok(end) = end.wait_for(there).await else {
            return Err(SyncFailed("the log is closed".into()));
        };
        match &end.failed {
            None => Ok(()),
            Some(reason) => Err(SyncFailed(reason.clone())),
        }
    }

    /// Entries up to `last` can be read. The returned function is called when they are durable.
    pub(crate) fn written(&self, last: u64) -> impl FnOnce(IoResult<()>) + Send + 'static {
        let next = last.saturating_add(1);
        let mut epoch = 0;
        self.0.send_if_modified(|end| {
            end.written = next;
            epoch = end.epoch;
            false
        });
        let DurableIndex(end) = self.clone();
        move |synced| {
            end.send_modify(|end| match synced {
                Ok(()) if end.epoch == epoch => end.durable = end.durable.max(next),
                Ok(()) => {}
                Err(error) => end.failed = Some(error.to_string()),
            });
        }
    }

    /// Entries from this index on are going to be removed.
    pub(crate) fn truncated(&self, from: u64) {
        self.0.send_modify(|end| {
            end.epoch += 1;
            end.written = end.written.min(from);
            end.durable = end.durable.min(from);
        });
    }

    /// All that can be read is durable: a truncation ends with a sync.
    pub(crate) fn all_synced(&self) {
        self.0.send_modify(|end| end.durable = end.written);
    }

    /// Nothing up to this index is needed any longer, whether it was there or not.
    pub(crate) fn purged(&self, upto: u64) {
        let next = upto.saturating_add(1);
        self.0.send_modify(|end| {
            end.written = end.written.max(next);
            end.durable = end.durable.max(next);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn reaches(end: &DurableIndex, index: u64) -> Option<bool> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(end.reaches(index)).poll(&mut context) {
            Poll::Ready(outcome) => Some(outcome.is_ok()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn waits_for_what_is_written_and_for_nothing_else() {
        let end = DurableIndex::new(5);
        assert_eq!(reaches(&end, 9), Some(true));
        let synced = end.written(6);
        assert_eq!((reaches(&end, 4), reaches(&end, 5)), (Some(true), None));
        assert_eq!(reaches(&end, 9), None);
        synced(Ok(()));
        assert_eq!(reaches(&end, 9), Some(true));
    }

    #[test]
    fn a_sync_from_before_a_truncation_proves_nothing() {
        let end = DurableIndex::new(0);
        let old = end.written(9);
        end.truncated(4);
        let new = end.written(5);
        old(Ok(()));
        assert_eq!((reaches(&end, 3), reaches(&end, 4)), (None, None));
        new(Ok(()));
        assert_eq!(reaches(&end, 5), Some(true));
    }

    #[test]
    fn what_a_truncation_leaves_is_synced_with_it() {
        let end = DurableIndex::new(5);
        let old = end.written(9);
        end.truncated(7);
        old(Ok(()));
        assert_eq!(reaches(&end, 6), None);
        end.all_synced();
        assert_eq!(reaches(&end, 9), Some(true));
        drop(end.written(7));
        assert_eq!((reaches(&end, 6), reaches(&end, 7)), (Some(true), None));
    }

    #[test]
    fn what_is_purged_is_not_waited_for() {
        let end = DurableIndex::new(0);
        let late = end.written(3);
        end.purged(7);
        assert_eq!(reaches(&end, 7), Some(true));
        let synced = end.written(8);
        late(Ok(()));
        assert_eq!((reaches(&end, 7), reaches(&end, 8)), (Some(true), None));
        synced(Ok(()));
        assert_eq!(reaches(&end, 8), Some(true));
    }

    #[test]
    fn a_failed_sync_ends_all_waiting() {
        let end = DurableIndex::new(0);
        let first = end.written(0);
        let second = end.written(1);
        first(Err(std::io::Error::other("broken")));
        second(Ok(()));
        assert_eq!(
            (reaches(&end, 0), reaches(&end, 1)),
            (Some(false), Some(false))
        );
    }
}
