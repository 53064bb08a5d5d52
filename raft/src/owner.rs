//! Connects the log to the sessions of this member: asks what they lack, reports what was applied.
//!
//! The keeper of the sessions (the *owner* of what they register) lives outside this crate. It
//! compares what its sessions want with what the registry records, and proposes the difference
//! whenever the batcher can take it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raftlookupd_storage::event::{Event, Refusal};
use raftlookupd_storage::registration::{MemberId, UnixMillis};
use raftlookupd_storage::registration_db::{Note, RegistrationDb};
use tokio::sync::Notify;

/// What a batch has room for.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// The position in the batch of its first event.
    pub first: usize,
    /// Events.
    pub events: usize,
    /// Bytes of their names, roughly.
    pub bytes: usize,
}

/// Keeps the sessions of one member.
///
/// Calls are made with the registry as it is at that moment: no entry is applied between a change
/// of the registry and the call that reports it.
pub trait Owner: Send {
    /// The registry has loaded; sessions that are open already stay open.
    fn loaded(&mut self, member: MemberId, incarnation: u64, db: &RegistrationDb);

    /// The registry was replaced by a snapshot. What happened in between is not known, so this is a
    /// restart: sessions end, and what is recorded belongs to earlier incarnations.
    fn replaced(&mut self, member: MemberId, incarnation: u64, db: &RegistrationDb);

    /// The events of the next batch, which has this sequence number; none if there is nothing to
    /// propose.
    fn propose(
        &mut self,
        incarnation: u64,
        sequence: u64,
        now: UnixMillis,
        room: Room,
        db: &RegistrationDb,
    ) -> Vec<Event>;

    /// Whether there is more to propose, although the last call gave nothing.
    fn has_more(&self) -> bool;

    /// The batch is committed, but for the events refused; it may not be applied here yet.
    fn committed(&mut self, incarnation: u64, sequence: u64, refused: &[(u32, Refusal)]);

    /// Entries were applied here, with this meaning for the member. Whether there is something to
    /// propose now.
    fn applied(&mut self, notes: Vec<Note>, db: &RegistrationDb) -> bool;
}

/// An owner that everyone can call. Locked before the registry is, never after.
#[derive(Clone)]
pub struct SharedOwner {
    owner: Arc<Mutex<dyn Owner>>,
    waker: Arc<Notify>,
}

impl SharedOwner {
    /// Shares an owner, which its creator may have shared already, and notifies `waker` whenever
    /// there is something to propose.
    pub fn new(owner: Arc<Mutex<dyn Owner>>, waker: Arc<Notify>) -> Self {
        SharedOwner { owner, waker }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, dyn Owner + 'static> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn waker(&self) -> &Arc<Notify> {
        &self.waker
    }
}

impl Default for SharedOwner {
    /// Of a member without sessions.
    fn default() -> Self {
        SharedOwner::new(Arc::new(Mutex::new(NoSessions)), Arc::default())
    }
}

impl std::fmt::Debug for SharedOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SharedOwner")
    }
}

/// The owner of no sessions.
struct NoSessions;

impl Owner for NoSessions {
    fn loaded(&mut self, _: MemberId, _: u64, _: &RegistrationDb) {}
    fn replaced(&mut self, _: MemberId, _: u64, _: &RegistrationDb) {}
    fn has_more(&self) -> bool {
        false
    }
    fn propose(
        &mut self,
        _: u64,
        _: u64,
        _: UnixMillis,
        _: Room,
        _: &RegistrationDb,
    ) -> Vec<Event> {
        Vec::new()
    }
    fn committed(&mut self, _: u64, _: u64, _: &[(u32, Refusal)]) {}
    fn applied(&mut self, _: Vec<Note>, _: &RegistrationDb) -> bool {
        false
    }
}
