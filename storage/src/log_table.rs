//! The Raft log, the vote and the purge point, as bytes; durable when it says so.
//!
//! An append is readable when it returns. It is durable when its callback is called: a thread
//! of its own (`sync_thread`) syncs once for all appends that have come together and then
//! calls them back. The same thread deletes purged entries, in steps small enough that
//! nobody waits for them, and advances the durable mark (`durable_mark`).
//!
//! # Invariants
//! - Entries above the purge point are contiguous. On disk that holds at every instant: a
//!   truncation deletes from the end, so an interruption leaves a longer log, not a hole.
//! - Entries at or below the purge point are never read, whether deleted yet or not.
//! - The durable mark never promises more than what was synced, and is lowered, durably,
//!   before a truncation deletes anything.
//! - After a failed sync nothing is appended and no vote is saved until a restart.

mod checks;
pub(crate) mod durable_mark;
mod entry_chunks;
mod state;
mod sync_thread;

use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::encoding::{decode, encode};
use crate::error::{Error, Result};
use crate::record_file::{seal, unseal};
use crate::sled_engine::{Engine, Table, guarded};
use durable_mark::DurableMark;
use entry_chunks::{Assembly, begins_entry, first_key, to_chunks};
use state::State;

/// Keys of one deletion step: a longer one was measured to hold up appends for most of a
/// second.
const STEP_KEYS: usize = 16;

const VOTE_KEY: &[u8] = b"vote";
const PURGED_KEY: &[u8] = b"purged";
const COMMITTED_KEY: &[u8] = b"committed";

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
pub struct LogTable(Arc<Inner>);

struct Inner {
    engine: Engine,
    entries: Table,
    meta: Table,
    mark: DurableMark,
    /// Held by whoever changes which entries there are. Taken before `state`.
    writing: Mutex<()>,
    state: Mutex<State>,
    /// There is something for the thread to do.
    wake: Condvar,
    /// Copies of what stands in `state`, for metrics.
    live_bytes: AtomicU64,
    live_entries: AtomicU64,
}

impl LogTable {
    /// Reads and checks the log, and starts its thread.
    pub(crate) fn open(
        engine: &Engine,
        mark: DurableMark,
    ) -> Result<(LogTable, JoinHandle<Result<()>>)> {
        let log = guarded(engine.data_path(), || {
            let mut inner = Inner {
                engine: engine.clone(),
                entries: engine.table("log")?,
                meta: engine.table("log-meta")?,
                mark,
                writing: Mutex::new(()),
                state: Mutex::new(State::default()),
                wake: Condvar::new(),
                live_bytes: AtomicU64::new(0),
                live_entries: AtomicU64::new(0),
            };
            inner.state = Mutex::new(inner.read_and_check()?);
            Ok(LogTable(Arc::new(inner)))
        })?;
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
        let _writing = inner.writing();
        inner.engine.check_writable()?;
        inner.check_continues(&entries)?;
        let rows = entries
            .iter()
            .flat_map(|(index, bytes)| to_chunks(*index, bytes));
        inner
            .entries
            .batch(rows.map(|(key, value)| (key, Some(value))))?;
        let mut state = inner.state();
        for (index, bytes) in &entries {
            state.add(*index, bytes.len());
        }
        state.pending.push(Box::new(done));
        inner.count(&state);
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
            let (range, epoch) = {
                let state = inner.state();
                (state.contiguous(start, end), state.epoch)
            };
            let Some((first, last)) = range else {
                return Ok(Vec::new());
            };
            let outcome = inner.read_entries(first, last, max_bytes);
            // A purge or a truncation may have passed us meanwhile. What is not there
            // any more is no damage then; what is there may be of before and after.
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
    /// [`Error::Io`] if that fails; how many of them are left on disk is unknown then, and the
    /// member must stop.
    pub fn truncate(&self, from: u64) -> Result<()> {
        let inner = &*self.0;
        let _writing = inner.writing();
        inner.engine.check_writable()?;
        let from = {
            let mut state = inner.state();
            // What is purged is deleted by the thread.
            let from = from.max(state.first_possible());
            state.truncate(from);
            inner.count(&state);
            from
        };
        inner.mark.lower(from)?;
        while inner.delete_step(from)? {}
        inner.engine.sync()?;
        let mut state = inner.state();
        // Nobody appended: we are `writing`.
        state.synced = state.end();
        Ok(())
    }

    /// Declares everything up to `upto` unneeded and remembers `point`. Beyond the last entry
    /// too, as after a snapshot was installed: the log then goes on after `upto`.
    ///
    /// Counts at once; the entries are deleted in the background, after a sync, and so never
    /// before what stood in the tables by now is durable.
    ///
    /// # Errors
    /// [`Error::Io`] if the point cannot be written.
    pub fn purge(&self, upto: u64, point: &[u8]) -> Result<()> {
        let inner = &*self.0;
        let _writing = inner.writing();
        if inner.state().purged_index() > Some(upto) {
            return Ok(());
        }
        let stored = encode("the purge point", &(upto, point))?;
        inner.set_meta(PURGED_KEY, &stored)?;
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
        // One after the other: the table and the record must not end up with different votes.
        let _writing = inner.writing();
        inner.set_meta(VOTE_KEY, &encode("the vote", &vote)?)?;
        inner.engine.sync()?;
        // Last, so that the record never promises a vote that the table may not have.
        inner.mark.set_vote(vote)
    }

    /// The vote that was saved last.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is damaged, [`Error::Io`] if reading fails.
    pub fn vote(&self) -> Result<Option<StoredVote>> {
        self.0.vote()
    }

    /// Remembers how far the log is known to be committed. Not synced: after a crash
    /// an older value does as well.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn save_committed(&self, bytes: &[u8]) -> Result<()> {
        self.0.set_meta(COMMITTED_KEY, bytes)
    }

    /// What [`save_committed`](Self::save_committed) was given last.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is damaged, [`Error::Io`] if reading fails.
    pub fn committed(&self) -> Result<Option<Vec<u8>>> {
        self.0.get_meta(COMMITTED_KEY)
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
        self.0.engine.last_sync_micros()
    }

    /// Lets the thread finish what is pending, write the mark and end.
    pub(crate) fn shut_down(&self) {
        self.0.state().closing = true;
        self.0.wake.notify_one();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, state: &State) {
        self.live_bytes.store(state.live_bytes, Ordering::Relaxed);
        let entries = state.sizes.len() as u64;
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

    /// Entries `first` to `last`, both included, all of which should be there.
    fn read_entries(&self, first: u64, last: u64, max_bytes: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut expected = first;
        let mut left = max_bytes;
        let mut full = false;
        self.scan(first, Some(last), |index, bytes| {
            if index != expected {
                return Ok(false);
            }
            full = bytes.len() > left;
            if full && !found.is_empty() {
                return Ok(false);
            }
            left = left.saturating_sub(bytes.len());
            found.push((index, bytes));
            expected = index.saturating_add(1);
            Ok(!full)
        })?;
        if !full && found.last().map(|entry| entry.0) != Some(last) {
            return Err(self.missing(expected));
        }
        Ok(found)
    }

    /// Deletes a few of the entries from `from` on; `false` if there are none. From the end and
    /// only whole ones: an interruption must leave neither a hole nor half an entry.
    fn delete_step(&self, from: u64) -> Result<bool> {
        let mut keys = 0;
        self.entries.remove_from_end(&first_key(from), |key| {
            keys += 1;
            keys >= STEP_KEYS && begins_entry(key)
        })
    }

    /// Hands the entries from `first` to `last` to `take`, until it has enough.
    fn scan(
        &self,
        first: u64,
        last: Option<u64>,
        mut take: impl FnMut(u64, Vec<u8>) -> Result<bool>,
    ) -> Result<()> {
        let end = last.and_then(|last| last.checked_add(1)).map(first_key);
        let end = end.as_ref().map(|key| key.as_slice());
        let mut assembly = Assembly::default();
        for row in self.entries.range(&first_key(first), end) {
            let (key, value) = row?;
            if let Some((index, entry)) = assembly.push(&key, &value)
                && !take(index, self.intact(index, entry)?)?
            {
                return Ok(());
            }
        }
        if let Some((index, entry)) = assembly.finish() {
            take(index, self.intact(index, entry)?)?;
        }
        Ok(())
    }

    fn set_meta(&self, key: &[u8], bytes: &[u8]) -> Result<()> {
        self.meta.insert(key, seal(key, bytes))
    }

    fn get_meta(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(sealed) = self.meta.get(key)? else {
            return Ok(None);
        };
        match unseal(key, &sealed) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(damage) => {
                let name = key.escape_ascii();
                Err(self.damage(format!("the log's `{name}` {damage}")))
            }
        }
    }

    fn vote(&self) -> Result<Option<StoredVote>> {
        let stored = self.get_meta(VOTE_KEY)?;
        stored.map(|stored| decode("the vote", &stored)).transpose()
    }
}

#[cfg(test)]
mod tests;
