//! Connects the owner to the registry, which asks it for events and reports what became of them.

use raftlookupd_raft::owner::{Owner as RegistryOwner, Room};
use raftlookupd_raft::storage::event::{Event, Refusal};
use raftlookupd_raft::storage::registration::{MemberId, UnixMillis};
use raftlookupd_raft::storage::registration_db::{Note, RegistrationDb};

use super::shared::Shared;

impl RegistryOwner for Shared {
    fn loaded(&mut self, member: MemberId, incarnation: u64, _: &RegistrationDb) {
        let now = self.now();
        self.owner.begin(now, member, incarnation, false);
        self.carry_out();
    }

    fn replaced(&mut self, member: MemberId, incarnation: u64, _: &RegistrationDb) {
        let now = self.now();
        self.owner.begin(now, member, incarnation, true);
        self.carry_out();
    }

    fn propose(
        &mut self,
        incarnation: u64,
        sequence: u64,
        clock: UnixMillis,
        room: Room,
        db: &RegistrationDb,
    ) -> Vec<Event> {
        self.set_clock(clock);
        if !self.owner.is(incarnation) {
            // A snapshot has just ended that incarnation, and the batcher does not know it yet.
            return Vec::new();
        }
        let now = self.now();
        let events = self.owner.propose(now, sequence, room, db);
        self.carry_out();
        events
    }

    fn has_more(&self) -> bool {
        self.owner.has_work()
    }

    fn committed(&mut self, incarnation: u64, sequence: u64, refused: &[(u32, Refusal)]) {
        if self.owner.is(incarnation) {
            self.owner.committed(sequence, refused);
            self.carry_out();
        }
    }

    fn applied(&mut self, notes: Vec<Note>, db: &RegistrationDb) -> bool {
        let now = self.now();
        self.owner.applied(now, notes, db);
        self.carry_out();
        self.owner.has_work()
    }
}
