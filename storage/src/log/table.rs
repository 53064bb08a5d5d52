//! Implements the log's operations: append, read, truncate, purge; and saving the vote.

use std::io::{Error as IoError, Result as IoResult};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::durable_mark::{DurableMark, StoredVote};
use super::record::Record;
use super::shared::Shared;
use super::state::Place;
use super::sync_times::SyncCounts;
use super::{recovery, sync_thread};
use crate::disk::write_gate::WriteGate;
use crate::error::Result;

/// The log of one member. Clones are handles on the same log.
#[derive(Clone)]
pub struct LogTable {
    pub(super) shared: Arc<Shared>,
}

impl LogTable {
    /// Reads and checks the log.
    pub(crate) fn open(gate: &WriteGate, mark: DurableMark) -> Result<LogTable> {
        let (state, segments, tail) = recovery::open(gate, mark.get())?;
        let shared = Arc::new(Shared::new(gate, mark, state, segments, tail));
        Ok(LogTable { shared })
    }

    /// Starts the log's thread. Without it, nothing that is appended becomes durable.
    pub(crate) fn start(&self) -> Result<JoinHandle<Result<()>>> {
        sync_thread::start(self.shared.clone())
    }

    /// Appends entries with ascending indexes. They are readable when this returns. `done` is
    /// called, on another thread, when they are durable or could not be made so.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io) if the entries cannot be written, do not continue the log, or an
    /// earlier sync failed. `done` is not called then.
    pub fn append(
        &self,
        entries: Vec<(u64, Vec<u8>)>,
        done: impl FnOnce(IoResult<()>) + Send + 'static,
    ) -> Result<()> {
        let shared = &*self.shared;
        let mut tail = shared.writing();
        shared.gate.check()?;
        shared.check_continues(&entries)?;
        let records: Vec<Record<'_>> = entries
            .iter()
            .map(|(index, bytes)| Record::Entry {
                index: *index,
                bytes,
            })
            .collect();
        let positions = shared.write(&mut tail, &records)?;
        let mut state = shared.state();
        for ((index, bytes), position) in entries.iter().zip(positions) {
            let bytes = bytes.len();
            state.add(*index, Place { position, bytes });
        }
        shared.count(&state);
        if state.closing {
            // The thread has ended meanwhile.
            drop(state);
            done(Err(IoError::other("the store was closed")));
            return Ok(());
        }
        state.pending.push(Box::new(done));
        shared.wake.notify_one();
        Ok(())
    }

    /// Reads entries from `start` to before `end`: as many as fit into `max_bytes`, but at least
    /// one if there is one. Purged entries at the front are skipped.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Error::Corrupt) if an entry is missing or fails its checksum,
    /// [`Io`](crate::Error::Io) if reading fails.
    pub fn read(&self, start: u64, end: u64, max_bytes: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let shared = &*self.shared;
        loop {
            let (selected, epoch) = {
                let state = shared.state();
                (state.select(start, end, max_bytes), state.epoch)
            };
            let Some((first, _)) = selected.first().copied() else {
                return Ok(Vec::new());
            };
            let outcome = shared.read_entries(&selected);
            // A concurrent purge or truncation may have removed what was selected: then a missing
            // entry is not damage, and a found one may be obsolete.
            let state = shared.state();
            if state.epoch == epoch && state.is_live(first) {
                return outcome;
            }
        }
    }

    /// The last entry; `None` if all are purged or there never was one.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn last(&self) -> Result<Option<(u64, Vec<u8>)>> {
        loop {
            let Some(last) = self.shared.state().last_entry() else {
                return Ok(None);
            };
            // Empty if it was truncated in between.
            let entry = self.read(last, last.saturating_add(1), usize::MAX)?.pop();
            if entry.is_some() {
                return Ok(entry);
            }
        }
    }

    /// The index of the last entry; `None` if all are purged or there never was one.
    pub fn last_index(&self) -> Option<u64> {
        self.shared.state().last_entry()
    }

    /// The index up to which the log was purged, and the `point` that was given then.
    ///
    /// # Errors
    /// Never fails today; callers must not rely on that.
    pub fn purge_point(&self) -> Result<Option<(u64, Vec<u8>)>> {
        Ok(self.shared.state().purged.clone())
    }

    /// Removes the entries from `from` on, durably.
    ///
    /// # Errors
    /// [`Io`](crate::Error::Io) if that fails. It is then unknown whether they are still on disk,
    /// and the member must stop.
    pub fn truncate(&self, from: u64) -> Result<()> {
        let shared = &*self.shared;
        let mut tail = shared.writing();
        shared.gate.check()?;
        let from = {
            let mut state = shared.state();
            // What is purged is gone anyway.
            let from = from.max(state.first_possible());
            state.truncate(from);
            state.truncating = true;
            shared.count(&state);
            from
        };
        shared.gate.close_if_failed(shared.mark.lower(from))?;
        shared.write(&mut tail, &[Record::Truncated { from }])?;
        shared.segments.sync()?;
        let mut state = shared.state();
        // Nothing was appended meanwhile: `writing` is locked.
        debug_assert!(state.end() < Some(from), "the log grew while it was cut");
        let end = state.end();
        state.note_synced(end);
        state.truncating = false;
        Ok(())
    }

    /// Purges the log up to `upto` and remembers `point`. `upto` may be beyond the last entry, as
    /// after installing a snapshot: the log then continues after it.
    ///
    /// What the entries did must be in a durable snapshot file, since the record of the purge may
    /// survive without a sync. The purge takes effect at once, and is durable before the thread
    /// removes any segment.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the point cannot be written.
    pub fn purge(&self, upto: u64, point: &[u8]) -> Result<()> {
        let shared = &*self.shared;
        let mut tail = shared.writing();
        if shared.state().purged_index() > Some(upto) {
            return Ok(());
        }
        shared.write(&mut tail, &[Record::Purged { upto, point }])?;
        let mut state = shared.state();
        state.purge(upto, point.to_vec());
        shared.count(&state);
        shared.wake.notify_one();
        Ok(())
    }

    /// Saves the vote. It is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be made durable, or an earlier sync failed.
    pub fn save_vote(&self, vote: StoredVote) -> Result<()> {
        let shared = &*self.shared;
        shared.gate.check()?;
        // After a failure it is unknown which vote a restart would find.
        shared.gate.close_if_failed(shared.mark.set_vote(vote))
    }

    /// The vote that was saved last.
    ///
    /// # Errors
    /// Never fails today; callers must not rely on that.
    pub fn vote(&self) -> Result<Option<StoredVote>> {
        Ok(self.shared.mark.get().vote)
    }

    /// Saves how far the log is known to be committed. Not synced: after a crash, an older value
    /// serves as well.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if it cannot be written.
    pub fn save_committed(&self, bytes: &[u8]) -> Result<()> {
        let shared = &*self.shared;
        let mut tail = shared.writing();
        shared.gate.check()?;
        if shared.state().committed.as_deref() == Some(bytes) {
            return Ok(());
        }
        shared.write(&mut tail, &[Record::Committed(bytes)])?;
        shared.state().committed = Some(bytes.to_vec());
        Ok(())
    }

    /// The value that [`save_committed`](Self::save_committed) was given last.
    ///
    /// # Errors
    /// Never fails today; callers must not rely on that.
    pub fn committed(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.shared.state().committed.clone())
    }

    /// Why writes are refused; `None` while they are not.
    pub fn failure(&self) -> Option<String> {
        let writable = self.shared.gate.check();
        writable.err().map(|error| error.to_string())
    }

    /// The size of all entries between the purge point and the end.
    pub fn live_bytes(&self) -> u64 {
        self.shared.live_bytes()
    }

    /// The number of entries between the purge point and the end.
    pub fn live_entries(&self) -> u64 {
        self.shared.live_entries()
    }

    /// How many syncs took how long.
    pub fn sync_counts(&self) -> SyncCounts {
        self.shared.segments.times().counts()
    }

    /// For how long a sync has been running; `None` if none is.
    pub fn sync_running_for(&self) -> Option<Duration> {
        self.shared.segments.times().running_for()
    }

    /// The size of the log's files.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.shared.segments.disk_bytes()
    }

    /// Makes the thread sync what is pending, write the mark and end.
    pub(crate) fn shut_down(&self) {
        self.shared.state().closing = true;
        self.shared.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
