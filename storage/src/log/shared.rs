//! Holds what the log's handles and its sync thread share.

use std::io::{Error as IoError, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::durable_mark::DurableMark;
use super::record::{Position, Record};
use super::segments::{Segments, Tail};
use super::state::{Place, State};
use crate::disk::write_gate::WriteGate;
use crate::error::{Error, Result};

/// The parts of an open log, each behind its lock.
pub(super) struct Shared {
    pub(super) gate: WriteGate,
    pub(super) mark: DurableMark,
    pub(super) segments: Segments,
    /// Held while the log is being changed. Taken before `state`.
    writing: Mutex<Tail>,
    state: Mutex<State>,
    /// Wakes the sync thread.
    pub(super) wake: Condvar,
    /// Copies of counters in `state`, for metrics.
    live_bytes: AtomicU64,
    live_entries: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        gate: &WriteGate,
        mark: DurableMark,
        state: State,
        segments: Segments,
        tail: Tail,
    ) -> Shared {
        let shared = Shared {
            gate: gate.clone(),
            mark,
            segments,
            writing: Mutex::new(tail),
            state: Mutex::new(state),
            wake: Condvar::new(),
            live_bytes: AtomicU64::new(0),
            live_entries: AtomicU64::new(0),
        };
        shared.count(&shared.state());
        shared
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn writing(&self) -> MutexGuard<'_, Tail> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, state: &State) {
        self.live_bytes.store(state.live_bytes, Ordering::Relaxed);
        let entries = state.entries.len() as u64;
        self.live_entries.store(entries, Ordering::Relaxed);
    }

    /// Checks that entries continue the log. A hole is accepted here (openraft's own test suite
    /// makes some) and refused when the log is opened. Overwriting is not accepted: it takes a
    /// truncation.
    pub(super) fn check_continues(&self, entries: &[(u64, Vec<u8>)]) -> Result<()> {
        let state = self.state();
        if state.closing {
            return Err(self.refuse("the store is closed".into()));
        }
        let mut end = state.end();
        for (index, _) in entries {
            if let Some(end) = end.filter(|end| end >= index) {
                return Err(self.refuse(format!("entry {index} follows entry {end}")));
            }
            end = Some(*index);
        }
        Ok(())
    }

    fn refuse(&self, reason: String) -> Error {
        Error::io("append to", self.gate.data_path())(IoError::new(ErrorKind::InvalidInput, reason))
    }

    /// Writes records at the end. Returns the position of each.
    pub(super) fn write(&self, tail: &mut Tail, records: &[Record<'_>]) -> Result<Vec<Position>> {
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

    pub(super) fn read_entries(&self, selected: &[(u64, Place)]) -> Result<Vec<(u64, Vec<u8>)>> {
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
        Error::corrupt(self.gate.data_path(), what)
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn live_entries(&self) -> u64 {
        self.live_entries.load(Ordering::Relaxed)
    }
}
