//! One member without sockets, disks or threads: the owner, its copy of the registry, and what the
//! batcher does between them.

use raftlookupd::nsqd::owner::{Now, Owner, Settings};
use raftlookupd_raft::owner::Room;
use raftlookupd_raft::storage::event::{BatchResult, Event, MemberBatch, Proposal, Refusal};
use raftlookupd_raft::storage::registration::MemberId;
use raftlookupd_raft::storage::registration_db::{Applying, RegistrationDb};

/// A change that HTTP asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request(pub u32);

/// How far the batcher has got with its incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a barrier: the fence carries the cluster's time.
    Late,
    /// The empty first batch is to be committed.
    Fence,
    /// It waits for a barrier: what earlier incarnations did is to be seen.
    Behind,
    Live,
    /// This process must not speak for the member.
    Superseded,
}

/// The batch in flight.
#[derive(Debug)]
pub struct Flight {
    pub batch: MemberBatch,
    requests: Vec<Request>,
}

/// What a decided batch means.
pub struct Decided {
    /// Requests, and why they were refused.
    pub requests: Vec<(Request, Option<Refusal>)>,
}

pub struct Member {
    pub id: MemberId,
    pub incarnation: u64,
    pub owner: Owner,
    /// `None` before it has loaded.
    pub db: Option<RegistrationDb>,
    /// Entries of the log that are applied.
    pub applied: usize,
    pub stage: Stage,
    pub flight: Option<Flight>,
    /// Someone has notified the batcher.
    pub woken: bool,
    /// A batch is wanted even if it is empty.
    pub present: bool,
    sequence: u64,
    requests: Vec<(Request, Event)>,
}

impl Member {
    /// A process that has just started.
    pub fn new(id: MemberId, incarnation: u64, settings: Settings) -> Self {
        Member {
            id,
            incarnation,
            owner: Owner::new(settings),
            db: None,
            applied: 0,
            stage: Stage::Late,
            flight: None,
            woken: false,
            present: false,
            sequence: 0,
            requests: Vec::new(),
        }
    }

    /// The registry is loaded from disk, where it has applied that much of the log.
    pub fn load(&mut self, now: Now, db: RegistrationDb, applied: usize) {
        self.db = Some(db);
        self.applied = applied;
        self.owner.begin(now, self.id, self.incarnation, false);
    }

    /// A snapshot replaces the registry: a new incarnation begins.
    pub fn install(&mut self, now: Now, db: RegistrationDb, applied: usize) {
        self.db = Some(db);
        self.applied = applied;
        self.incarnation += 1;
        self.owner.begin(now, self.id, self.incarnation, true);
        self.stage = Stage::Late;
        self.flight = None;
        self.sequence = 0;
    }

    /// Applies the next entry of the log.
    pub fn apply(&mut self, now: Now, entry: &Proposal) {
        let Some(db) = &mut self.db else {
            return;
        };
        let mut applying = Applying::new(entry, Some(self.id));
        loop {
            let step = applying.step(db).expect("the registry is usable");
            if !step.notes.is_empty() {
                self.owner.applied(now, step.notes, db);
                self.woken |= self.owner.has_work();
            }
            if step.done {
                break;
            }
        }
        self.applied += 1;
    }

    /// A barrier has passed.
    pub fn has_caught_up(&mut self) {
        self.stage = match self.stage {
            Stage::Late => Stage::Fence,
            Stage::Behind => Stage::Live,
            other => other,
        };
        self.woken = true;
    }

    pub fn ask(&mut self, request: Request, event: Event) {
        self.requests.push((request, event));
        self.woken = true;
    }

    /// Makes the next batch, if it is time for one and there is something to propose.
    pub fn propose(&mut self, now: Now, room: Room) -> Option<&MemberBatch> {
        let db = self.db.as_ref().filter(|_| self.flight.is_none())?;
        let mut batch = MemberBatch {
            member: self.id,
            incarnation: self.incarnation,
            sequence: self.sequence + 1,
            at: now.clock,
            events: Vec::new(),
        };
        let mut requests = Vec::new();
        match self.stage {
            Stage::Fence => {}
            Stage::Live if self.woken || self.present => {
                let present = std::mem::take(&mut self.present);
                self.woken = false;
                for (request, event) in self.requests.drain(..) {
                    requests.push(request);
                    batch.events.push(event);
                }
                let room = Room {
                    first: batch.events.len(),
                    ..room
                };
                loop {
                    let found = self.owner.propose(now, batch.sequence, room, db);
                    let found_any = !found.is_empty();
                    batch.events.extend(found);
                    if found_any || !self.owner.has_work() {
                        break;
                    }
                }
                if batch.events.is_empty() && !present {
                    return None;
                }
            }
            _ => return None,
        }
        self.sequence = batch.sequence;
        let flight = self.flight.insert(Flight { batch, requests });
        Some(&flight.batch)
    }

    /// The leader says what became of a batch of this member.
    pub fn decided(&mut self, batch: (u64, u64), result: &BatchResult) -> Option<Decided> {
        let is_this = |flight: &Flight| (flight.batch.incarnation, flight.batch.sequence) == batch;
        let flight = self.flight.take_if(|flight| is_this(flight))?;
        let BatchResult::Applied { refused } = result else {
            self.stage = Stage::Superseded;
            return None;
        };
        if self.stage == Stage::Fence {
            self.stage = Stage::Behind;
            return None;
        }
        self.owner.committed(flight.batch.sequence, refused);
        // After each batch the batcher looks for more.
        self.woken = true;
        let refusal = |position: usize| {
            let found = refused.iter().find(|(at, _)| *at as usize == position);
            found.map(|(_, refusal)| *refusal)
        };
        let requests = flight.requests.iter().zip(0..);
        let requests = requests.map(|(request, position)| (*request, refusal(position)));
        Some(Decided {
            requests: requests.collect(),
        })
    }

    /// Whether nothing is left to do for the batcher.
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Live
            && self.flight.is_none()
            && self.requests.is_empty()
            && !self.owner.has_work()
    }

    pub fn is_recorded_away(&self) -> bool {
        let row = self.db.as_ref().and_then(|db| db.member(self.id));
        row.is_some_and(|row| row.away.is_some())
    }
}
