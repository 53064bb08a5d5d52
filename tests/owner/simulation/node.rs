//! The members of the world: their processes, and what the keeper of sessions does at each.

use std::collections::BTreeMap;

use raftlookupd::nsqd::owner::{CloseReason, Effect, Reply, SessionId, Ticket, Verdict};
use raftlookupd_raft::storage::registration::MemberId;

use super::random::Random;
use super::world::{ConnectionId, Time, What, World, trace};
use crate::log::{Rows, load, rows_of};
use crate::member::{Member, Stage};

/// Between two ticks.
const TICK: Time = 1_000;

/// For so long a member that lost its leader does not know it.
const UNNOTICED: Time = 600;

/// Applied entries after which a member writes its registry to disk.
const WRITTEN_AFTER: usize = 40;

pub struct Node {
    pub member: Member,
    pub up: bool,
    pub cut: bool,
    pub paused: bool,
    /// Counts the starts of processes.
    pub start: u32,
    pub lags_until: Time,
    /// To be restarted then, and down for this long.
    pub restarts_at: Option<(Time, Time)>,
    /// Its clock is this late.
    pub late: Time,
    /// What happens when it is no longer paused.
    pub held: Vec<What>,
    pub sessions: BTreeMap<SessionId, ConnectionId>,
    pub tickets: BTreeMap<Ticket, Held>,
    /// Commands that wait until this much is applied.
    pub barriers: Vec<(usize, Ticket)>,
    /// Since when it reaches a leader and applies what it gets; `None` if it does not.
    pub healthy_since: Option<Time>,
    pub last_contact: Time,
    /// When it was stopped last, and went on.
    pub resumed: Time,
    /// When a process died last.
    pub died: Time,
    pub luck: Random,
    disk: (Rows, usize),
    incarnation: u64,
    proposes: bool,
}

/// A command that waits.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub connection: ConnectionId,
    /// Of the command on its connection; `None` for what the end of a session waits for.
    pub number: Option<u32>,
    pub until: Time,
}

impl Node {
    pub fn new(seed: u64, place: usize) -> Self {
        let mut luck = Random::new(seed, 10 + place as u64);
        Node {
            member: Member::new(place as MemberId + 1, 0, World::settings()),
            up: false,
            cut: false,
            paused: false,
            start: 0,
            lags_until: 0,
            restarts_at: None,
            late: luck.between(0, 200),
            held: Vec::new(),
            sessions: BTreeMap::new(),
            tickets: BTreeMap::new(),
            barriers: Vec::new(),
            healthy_since: None,
            last_contact: 0,
            resumed: 0,
            died: 0,
            luck,
            disk: (Rows::new(), 0),
            incarnation: 0,
            proposes: false,
        }
    }

    pub fn is_reachable(&self) -> bool {
        self.up && !self.cut && !self.paused
    }
}

impl World {
    pub fn process(&self, place: usize) -> (usize, u32) {
        (place, self.nodes[place].start)
    }

    // Its life.

    pub fn start(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        if node.up {
            return;
        }
        node.up = true;
        node.start += 1;
        node.incarnation = node.incarnation.max(node.member.incarnation) + 1;
        let (id, incarnation) = (node.member.id, node.incarnation);
        node.member = Member::new(id, incarnation, World::settings());
        trace!(
            self,
            "m{} starts as incarnation {incarnation} of {id}",
            place + 1
        );
        let load_takes = self.nodes[place].luck.between(20, 300);
        let tick = self.nodes[place].luck.between(1, TICK);
        let process = self.process(place);
        self.after(load_takes, What::Load(process));
        self.after(tick, What::Tick(process));
    }

    pub fn load(&mut self, place: usize) {
        let now = self.time_at(place);
        let node = &mut self.nodes[place];
        let (rows, applied) = &node.disk;
        node.member.load(now, load(rows), *applied);
        let process = self.process(place);
        self.carry_out(place);
        self.after(1, What::Apply(process, 0));
        self.after(1, What::CaughtUp(process));
    }

    /// The process is killed; it is started again after this time.
    pub fn crash(&mut self, place: usize, again: Option<Time>) {
        if let Some(again) = again {
            self.after(again, What::Start(place));
        }
        let node = &mut self.nodes[place];
        if !node.up {
            return;
        }
        if let Some(db) = &node.member.db
            && node.luck.percent(50)
        {
            node.disk = (rows_of(db), node.member.applied);
        }
        node.up = false;
        node.paused = false;
        node.died = self.now;
        node.held.clear();
        node.tickets.clear();
        node.barriers.clear();
        node.proposes = false;
        let sessions = std::mem::take(&mut node.sessions);
        let lost: Vec<ConnectionId> = sessions.into_values().collect();
        for connection in lost {
            let producer = self.connections[connection].producer;
            self.watched.died(place, producer, self.now);
            self.lose_server_side(connection);
        }
        let at_it = |connection: &ConnectionId| self.connections[*connection].place == place;
        let others: Vec<ConnectionId> = self.open.iter().copied().filter(at_it).collect();
        for connection in others {
            self.lose_server_side(connection);
        }
        self.watch_leader();
    }

    pub fn cut(&mut self, place: usize, time: Time) {
        self.nodes[place].cut = true;
        self.watch_leader();
        self.after(time, What::Reachable(place));
    }

    pub fn reachable_again(&mut self, place: usize) {
        self.nodes[place].cut = false;
        let process = self.process(place);
        self.after(1, What::Apply(process, self.log.len()));
        self.watch_leader();
    }

    pub fn pause(&mut self, place: usize, time: Time) {
        if self.nodes[place].up && !self.nodes[place].paused {
            self.nodes[place].paused = true;
            self.watch_leader();
            self.after(time, What::Resume(place));
        }
    }

    pub fn resume(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        if !std::mem::take(&mut node.paused) {
            return;
        }
        node.resumed = self.now;
        for what in std::mem::take(&mut node.held) {
            self.after(0, what);
        }
        let process = self.process(place);
        self.after(1, What::Apply(process, self.log.len()));
        self.watch_leader();
    }

    /// The member is removed from the cluster; a new one takes its place, with an empty disk.
    pub fn replace(&mut self, place: usize, time: Time) {
        let others_work =
            (0..self.nodes.len()).all(|other| other == place || self.nodes[other].is_reachable());
        if !others_work || self.leading.is_none() || self.membership.len() < 3 {
            return;
        }
        let removed = self.nodes[place].member.id;
        self.membership.remove(&removed);
        self.crash(place, None);
        self.last_member += 1;
        let node = &mut self.nodes[place];
        node.member.id = self.last_member;
        node.member.incarnation = 0;
        node.incarnation = 0;
        node.disk = (Rows::new(), 0);
        node.cut = false;
        self.membership.insert(self.last_member);
        self.watched.replaced(place);
        self.watch_leader();
        self.after(time, What::Start(place));
    }

    // What it does by itself.

    pub fn tick(&mut self, place: usize) {
        let now = self.time_at(place);
        if let Some((at, down)) = self.nodes[place].restarts_at
            && at <= self.now
        {
            self.nodes[place].restarts_at = None;
            self.crash(place, Some(down));
            return;
        }
        let node = &mut self.nodes[place];
        let member = &mut node.member;
        if member.is_recorded_away() {
            member.present = true;
        }
        member.owner.tick(now, member.db.as_ref());
        self.carry_out(place);
        let process = self.process(place);
        self.after(TICK, What::Tick(process));
    }

    /// Barriers of the batcher.
    pub fn caught_up(&mut self, place: usize) {
        let process = self.process(place);
        let member = &self.nodes[place].member;
        if !matches!(member.stage, Stage::Late | Stage::Behind) {
            return;
        }
        if self.reaches_leader(place) && member.applied >= self.log.len() {
            self.nodes[place].member.has_caught_up();
            self.propose(place);
        }
        if matches!(self.nodes[place].member.stage, Stage::Late | Stage::Behind) {
            self.after(30, What::CaughtUp(process));
        }
    }

    pub fn propose(&mut self, place: usize) {
        let now = self.time_at(place);
        let room = self.room;
        let node = &mut self.nodes[place];
        node.proposes = false;
        if let Some(batch) = node.member.propose(now, room) {
            let (incarnation, sequence) = (batch.incarnation, batch.sequence);
            trace!(
                self,
                "m{} proposes {incarnation}.{sequence}: {}",
                place + 1,
                crate::text::events(
                    &self.nodes[place]
                        .member
                        .flight
                        .as_ref()
                        .expect("in flight")
                        .batch
                        .events
                )
            );
            let process = self.process(place);
            let way = self.nodes[place].luck.between(1, 10);
            self.after(way, What::Deliver(process));
        }
        self.carry_out(place);
    }

    pub fn apply(&mut self, place: usize, until: usize) {
        if !self.nodes[place].is_reachable() || self.nodes[place].member.db.is_none() {
            return;
        }
        let now = self.time_at(place);
        let until = match until {
            0 => self.log.len(),
            until => until,
        };
        if until.saturating_sub(self.nodes[place].member.applied) > self.purged {
            self.install_snapshot(place);
            return;
        }
        while self.nodes[place].member.applied < until {
            let member = &mut self.nodes[place].member;
            let entry = self.log.entry(member.applied);
            member.apply(now, &entry);
            let applied = member.applied;
            if applied.is_multiple_of(WRITTEN_AFTER) {
                self.write(place);
            }
            let hash = self.nodes[place]
                .member
                .db
                .as_ref()
                .map(|db| db.state_hash());
            if hash != Some(self.log.hash_at(applied)) {
                self.violate("diverged", format!("m{} at entry {applied}", place + 1));
            }
        }
        let applied = self.nodes[place].member.applied;
        let node = &mut self.nodes[place];
        let mut passed = Vec::new();
        node.barriers.retain(|(index, ticket)| {
            let passes = *index <= applied;
            passed.extend(passes.then_some(*ticket));
            !passes
        });
        self.carry_out(place);
        for ticket in passed {
            self.confirm(place, ticket);
        }
    }

    fn write(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        if let Some(db) = &node.member.db {
            node.disk = (rows_of(db), node.member.applied);
        }
    }

    fn install_snapshot(&mut self, place: usize) {
        trace!(self, "m{} installs a snapshot", place + 1);
        let now = self.time_at(place);
        for connection in self.nodes[place].sessions.values() {
            let producer = self.connections[*connection].producer;
            self.watched.died(place, producer, self.now);
        }
        let db = load(&rows_of(&self.log.registry));
        let applied = self.log.len();
        self.nodes[place].member.install(now, db, applied);
        self.nodes[place].barriers.clear();
        self.write(place);
        self.carry_out(place);
        let process = self.process(place);
        self.after(1, What::CaughtUp(process));
    }

    // The keeper of its sessions.

    /// Whether a command has a chance.
    pub fn can_commit(&self, place: usize) -> bool {
        let node = &self.nodes[place];
        node.member.db.is_none()
            || self.reaches_leader(place)
            || self.now - node.last_contact < UNNOTICED
    }

    /// Does what the owner wants done, and wakes the batcher.
    pub fn carry_out(&mut self, place: usize) {
        let effects = self.nodes[place].member.owner.take_effects();
        for effect in effects {
            match effect {
                Effect::Answer(ticket, Verdict::Confirm) => self.begin_barrier(place, ticket),
                Effect::Answer(ticket, verdict) => {
                    if let Some(held) = self.nodes[place].tickets.remove(&ticket) {
                        self.answer(held, verdict);
                    }
                }
                Effect::Close(session, reason) => self.close_session(place, session, reason),
                Effect::Shared { .. } | Effect::Active(..) | Effect::Abandoned(_) => {}
            }
        }
        let node = &mut self.nodes[place];
        node.member.woken |= node.member.owner.has_work();
        let repairs = node.member.owner.counts(None).repairs;
        if repairs > 0 {
            self.violate("repaired", format!("m{}", place + 1));
        }
        let node = &mut self.nodes[place];
        let can = node.member.flight.is_none()
            && match node.member.stage {
                Stage::Fence => true,
                Stage::Live => node.member.woken || node.member.present,
                _ => false,
            };
        if can && !node.proposes {
            node.proposes = true;
            let process = self.process(place);
            self.after(0, What::Propose(process));
        }
    }

    fn close_session(&mut self, place: usize, session: SessionId, reason: CloseReason) {
        let Some(connection) = self.nodes[place].sessions.remove(&session) else {
            return;
        };
        trace!(
            self,
            "m{} closes connection {connection}: {reason:?}",
            place + 1
        );
        if matches!(
            reason,
            CloseReason::TooMuchUndecided | CloseReason::MostUndecided
        ) {
            self.violate("closed", format!("{reason:?} with so little"));
        }
        let now = self.time_at(place);
        let mut dropped = Vec::new();
        self.nodes[place].tickets.retain(|ticket, held| {
            let of_it = held.connection == connection && held.number.is_some();
            dropped.extend(of_it.then_some(*ticket));
            !of_it
        });
        for ticket in dropped {
            self.nodes[place].member.owner.expire(ticket);
        }
        let can_commit = self.can_commit(place);
        self.nodes[place]
            .member
            .owner
            .close(now, session, can_commit);
        self.lose_server_side(connection);
    }

    /// Goes on with a command as the owner says.
    pub fn follow(&mut self, place: usize, held: Held, reply: Reply) {
        match reply {
            Reply::Now(verdict) => {
                self.answer(held, verdict);
            }
            Reply::Wait(ticket, patience) | Reply::Confirm(ticket, patience) => {
                let patience = patience.as_millis() as Time;
                let until = self.now + patience;
                self.nodes[place]
                    .tickets
                    .insert(ticket, Held { until, ..held });
                let process = self.process(place);
                self.after(patience, What::Expire(process, ticket));
                if matches!(reply, Reply::Confirm(..)) {
                    self.begin_barrier(place, ticket);
                }
            }
        }
    }

    fn begin_barrier(&mut self, place: usize, ticket: Ticket) {
        let process = self.process(place);
        let way = self.nodes[place].luck.between(1, 8);
        self.after(way, What::Barrier(process, ticket));
    }

    pub fn barrier(&mut self, place: usize, ticket: Ticket) {
        if !self.nodes[place].tickets.contains_key(&ticket) {
            return;
        }
        if !self.reaches_leader(place) {
            let process = self.process(place);
            self.after(20, What::Barrier(process, ticket));
            return;
        }
        let index = self.log.len();
        match self.nodes[place].member.applied >= index {
            true => self.confirm(place, ticket),
            false => self.nodes[place].barriers.push((index, ticket)),
        }
    }

    fn confirm(&mut self, place: usize, ticket: Ticket) {
        let Some(held) = self.nodes[place].tickets.remove(&ticket) else {
            return;
        };
        let now = self.time_at(place);
        let member = &mut self.nodes[place].member;
        let Some(db) = &member.db else {
            return;
        };
        let reply = member.owner.confirm(now, ticket, db);
        self.carry_out(place);
        self.follow(place, held, reply);
    }

    pub fn expire(&mut self, place: usize, ticket: Ticket) {
        let Some(held) = self.nodes[place].tickets.remove(&ticket) else {
            return;
        };
        if held.until > self.now {
            self.nodes[place].tickets.insert(ticket, held);
            return;
        }
        let verdict = self.nodes[place].member.owner.expire(ticket);
        self.carry_out(place);
        self.answer(held, verdict);
    }
}
