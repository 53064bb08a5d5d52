//! The log's handle: appends, reads, truncates, purges; the vote.

use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use super::durable_mark::DurableMark;
use super::record::{Position, Record};
use super::segments::{Segments, Tail};
use super::state::{Place, State};
use super::{recovery, sync_thread};
use crate::error::{Error, Result};
use crate::store::sled_engine::Engine;

/// Raft's promise to support a leader, or the claim to be one.
///
/// Ordered as Raft does: a member's vote only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoredVote {
    /// The term.
    pub term: u64,
    /// Who got it.
    pub node_id: u64,
    /// Whether a quorum agreed.
    pub committed: bool,
}

/// The log of one member. A clone is another handle on the same.
#[derive(Clone)]
pub struct LogTable(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) engine: Engine,
    pub(super) mark: DurableMark,
    pub(super) segments: Segments,
    /// Held by whoever changes what the log says. Taken before `state`.
    pub(super) writing: Mutex<Tail>,
    pub(super) state: Mutex<State>,
    /// There is something for the thread to do.
    pub(super) wake: Condvar,
    /// Copies of what stands in `state`, for metrics.
    pub(super) live_bytes: AtomicU64,
    pub(super) live_entries: AtomicU64,
}

impl LogTable {
    /// Reads and checks the log, and starts its thread.
    pub(crate) fn open(
        engine: &Engine,
        mark: DurableMark,
    ) -> Result<(LogTable, JoinHandle<Result<()>>)> {
        let (state, segments, tail) = recovery::open(engine, mark.get())?;
        let log = LogTable(Arc::new(Inner {
            engine: engine.clone(),
            mark,
            segments,
            writing: Mutex::new(tail),
            state: Mutex::new(state),
            wake: Condvar::new(),
            live_bytes: AtomicU64::new(0),
            live_entries: AtomicU64::new(0),
        }));
        log.0.count(&log.0.state());
        let thread = sync_thread::start(log.0.clone())?;
        Ok((log, thread))
    }

    /// Adds entries with ascending indexes behind the last one. They are readable when this
    /// returns; `done` is called, on another thread, when they are durable or failed to be.
    ///
    /// # Errors
    /// [`Error::Io`] if the entries cannot be written, do not continue the log, or an earlier
    /// sync failed. `done` is not called then.
    pub fn append(
        &self,
        entries: Vec<(u64, Vec<u8>)>,
        done: impl FnOnce(IoResult<()>) + Send + 'static,
    ) -> Result<()> {
        let inner = &*self.0;
        let mut tail = inner.writing();
        inner.engine.check_writable()?;
        inner.check_continues(&entries)?;
        let records: Vec<Record<'_>> = entries
            .iter()
            .map(|(index, bytes)| Record::Entry {
                index: *index,
                bytes,
            })
            .collect();
        let positions = inner.write(&mut tail, &records)?;
        let mut state = inner.state();
        for ((index, bytes), position) in entries.iter().zip(positions) {
            let bytes = bytes.len();
            state.add(*index, Place { position, bytes });
        }
        inner.count(&state);
        if state.closing {
            // The thread has ended meanwhile.
            drop(state);
            done(Err(IoError::other("the store was closed")));
            return Ok(());
        }
        state.pending.push(Box::new(done));
        inner.wake.notify_one();
        Ok(())
    }

    /// The entries from `start` to before `end`, as many as fit into `max_bytes`, but at least
    /// one if there is one. Purged ones are left out at the front.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if an entry is missing or fails its checksum, [`Error::Io`] if
    /// reading fails.
    pub fn read(&self, start: u64, end: u64, max_bytes: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let inner = &*self.0;
        loop {
            let (selected, epoch) = {
                let state = inner.state();
                (state.select(start, end, max_bytes), state.epoch)
            };
            let Some((first, _)) = selected.first().copied() else {
                return Ok(Vec::new());
            };
            let outcome = inner.read_entries(&selected);
            // A purge or a truncation may have passed us meanwhile. What is not there
            // any more is no damage then; what is there may not count any more.
            let state = inner.state();
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
            let Some(last) = self.0.state().last_entry() else {
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
        self.0.state().last_entry()
    }

    /// Up to where the log was purged, and the `point` that was given then.
    ///
    /// # Errors
    /// None so far; callers should not rely on it.
    pub fn purge_point(&self) -> Result<Option<(u64, Vec<u8>)>> {
        Ok(self.0.state().purged.clone())
    }

    /// Removes the entries from `from` on, durably.
    ///
    /// # Errors
    /// [`Error::Io`] if that fails; whether they are left on disk is unknown then, and the member
    /// must stop.
    pub fn truncate(&self, from: u64) -> Result<()> {
        let inner = &*self.0;
        let mut tail = inner.writing();
        inner.engine.check_writable()?;
        let from = {
            let mut state = inner.state();
            // What is purged is gone anyway.
            let from = from.max(state.first_possible());
            state.truncate(from);
            state.truncating = true;
            inner.count(&state);
            from
        };
        inner.engine.stop_if_failed(inner.mark.lower(from))?;
        inner.write(&mut tail, &[Record::Truncated { from }])?;
        inner.segments.sync()?;
        let mut state = inner.state();
        // Nobody appended: we are `writing`.
        state.synced = state.end();
        state.truncating = false;
        Ok(())
    }

    /// Declares everything up to `upto` unneeded and remembers `point`. Beyond the last entry
    /// too, as after a snapshot was installed: the log then goes on after `upto`.
    ///
    /// What stands in the tables by now is durable when this returns: it is what makes the entries
    /// unneeded. The purge itself counts at once, and is durable before anything is removed, which
    /// happens in the background.
    ///
    /// # Errors
    /// [`Error::Io`] if the point cannot be written.
    pub fn purge(&self, upto: u64, point: &[u8]) -> Result<()> {
        let inner = &*self.0;
        // The record may survive without being synced, if only the process is killed.
        inner.engine.sync()?;
        let mut tail = inner.writing();
        if inner.state().purged_index() > Some(upto) {
            return Ok(());
        }
        inner.write(&mut tail, &[Record::Purged { upto, point }])?;
        let mut state = inner.state();
        state.purge(upto, point.to_vec());
        inner.count(&state);
        inner.wake.notify_one();
        Ok(())
    }

    /// Saves the vote; it is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made durable, or an earlier sync failed.
    pub fn save_vote(&self, vote: StoredVote) -> Result<()> {
        let inner = &*self.0;
        inner.engine.check_writable()?;
        // If it failed, whether a restart would find it is unknown.
        inner.engine.stop_if_failed(inner.mark.set_vote(vote))
    }

    /// The vote that was saved last.
    ///
    /// # Errors
    /// None so far; callers should not rely on it.
    pub fn vote(&self) -> Result<Option<StoredVote>> {
        Ok(self.0.mark.get().vote)
    }

    /// Remembers how far the log is known to be committed. Not synced: after a crash
    /// an older value does as well.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn save_committed(&self, bytes: &[u8]) -> Result<()> {
        let inner = &*self.0;
        let mut tail = inner.writing();
        inner.engine.check_writable()?;
        if inner.state().committed.as_deref() == Some(bytes) {
            return Ok(());
        }
        inner.write(&mut tail, &[Record::Committed(bytes)])?;
        inner.state().committed = Some(bytes.to_vec());
        Ok(())
    }

    /// What [`save_committed`](Self::save_committed) was given last.
    ///
    /// # Errors
    /// None so far; callers should not rely on it.
    pub fn committed(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.0.state().committed.clone())
    }

    /// Why nothing is written any more; `None` while all is well.
    pub fn failure(&self) -> Option<String> {
        let writable = self.0.engine.check_writable();
        writable.err().map(|error| error.to_string())
    }

    /// The bytes of all entries between the purge point and the end.
    pub fn live_bytes(&self) -> u64 {
        self.0.live_bytes.load(Ordering::Relaxed)
    }

    /// How many entries there are between the purge point and the end.
    pub fn live_entries(&self) -> u64 {
        self.0.live_entries.load(Ordering::Relaxed)
    }

    /// How long the last sync took.
    pub fn last_sync_micros(&self) -> u64 {
        self.0.segments.last_sync_micros()
    }

    /// The bytes of the log's files.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.0.segments.disk_bytes()
    }

    /// Lets the thread finish what is pending, write the mark and end.
    pub(crate) fn shut_down(&self) {
        self.0.state().closing = true;
        self.0.wake.notify_one();
    }
}

impl Inner {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, Tail> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, state: &State) {
        self.live_bytes.store(state.live_bytes, Ordering::Relaxed);
        let entries = state.entries.len() as u64;
        self.live_entries.store(entries, Ordering::Relaxed);
    }

    /// A hole is tolerated here (openraft's own test suite makes some) and refused when the
    /// log is opened; overwriting is not, since that is what a truncation is for.
    fn check_continues(&self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        let state = self.state();
        if state.closing {
            return Err(self.refuse("the store is closed".into()));
        }
        let mut end = state.end();
        for (index, _) in entries {
            if end >= Some(*index) {
                let end = end.unwrap_or_default();
                return Err(self.refuse(format!("entry {index} comes after entry {end}")));
            }
            end = Some(*index);
        }
        Ok(())
    }

    fn refuse(&self, reason: String) -> Error {
        Error::io("append to", self.engine.data_path())(IoError::new(
            ErrorKind::InvalidInput,
            reason,
        ))
    }

    /// Writes records at the end; where each of them begins.
    fn write(&self, tail: &mut Tail, records: &[Record<'_>]) -> Result<Vec<Position>> {
        let (purged, committed) = {
            let state = self.state();
            (state.purged.clone(), state.committed.clone())
        };
        let purged = purged
            .as_ref()
            .map(|(upto, point)| Record::Purged { upto: *upto, point });
        let committed = committed.as_deref().map(Record::Committed);
        let kept: Vec<Record<'_>> = purged.into_iter().chain(committed).collect();
        self.segments.write(tail, records, &kept)
    }

    fn read_entries(&self, selected: &[(u64, Place)]) -> Result<Vec<(u64, Vec<u8>)>> {
        let entries = selected.iter();
        entries
            .map(|(index, place)| Ok((*index, self.read_entry(*index, *place)?)))
            .collect()
    }

    fn read_entry(&self, index: u64, place: Place) -> Result<Vec<u8>> {
        let stored = self.segments.read(place.position, place.record_bytes())?;
        match Record::read(place.position, &stored) {
            Ok(Some((
                Record::Entry {
                    index: found,
                    bytes,
                },
                _,
            ))) if found == index => Ok(bytes.to_vec()),
            Ok(_) => Err(self.damage(format!("log entry {index} is missing"))),
            Err(damage) => Err(self.damage(format!("log entry {index} {damage}"))),
        }
    }

    fn damage(&self, what: String) -> Error {
        Error::corrupt(self.engine.data_path(), what)
    }
}

#[cfg(test)]
mod tests;
