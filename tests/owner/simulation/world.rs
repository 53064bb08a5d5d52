//! The simulated world: three members, their log, nsqds, time. Everything happens in one thread,
//! in the order of a queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use raftlookupd::nsqd::owner::{Now, Settings, Ticket};
use raftlookupd_raft::owner::Room;
use raftlookupd_raft::storage::event::{BatchResult, MemberBatch, Proposal};
use raftlookupd_raft::storage::registration::{MemberId, ProducerId};

use super::actions::{Action, HEALED, MEMBERS, NSQDS, STRANGERS, Timed, Weather};
use super::checks::Watched;
use super::node::Node;
use super::nsqd::Nsqd;
use super::random::Random;
use super::stranger::Stranger;
use super::wire::{Connection, Message};
use crate::leader::Leading;
use crate::log::Log;

/// Milliseconds since the world began.
pub type Time = u64;

/// The cluster's clock then.
pub const NOON: u64 = 1_700_000_000_000;

/// `--inactive-producer-timeout`.
pub const TIMEOUT: Time = 40_000;

pub const TOMBSTONE: Time = 10_000;

/// When everything has come to rest: a half-open connection is noticed, its producer times out, and
/// the grace period has passed.
const RESTED: Time = HEALED + 110_000;

/// How long nothing must happen then.
const QUIET: Time = 25_000;

/// A process: where, and which start.
pub type Process = (usize, u32);

pub type ConnectionId = usize;

/// Something that happens.
pub enum What {
    Do(usize),
    Heal,
    Check,
    // One member.
    Start(usize),
    Reachable(usize),
    Resume(usize),
    Load(Process),
    Tick(Process),
    /// It may read as far as this: the first barriers of its incarnation.
    CaughtUp(Process),
    Propose(Process),
    Deliver(Process),
    Decided(Process, (u64, u64), BatchResult),
    Apply(Process, usize),
    /// A command's barrier knows how far to read.
    Barrier(Process, Ticket),
    Expire(Process, Ticket),
    Receive(Process, ConnectionId),
    // The leader.
    Elect,
    Look(u32),
    Commit(u32),
    /// An old proposal is committed by a new leader.
    CommitLate(Rc<Proposal>),
    // Clients.
    Arrive(ConnectionId, Message),
    Answer(ConnectionId, u32, bool),
    Impatience(ConnectionId, u32),
    Ping(usize, u32),
    Next(usize, u32),
    Restart(usize, u32),
    StrangerPings(usize),
}

pub struct Violation {
    pub kind: &'static str,
    pub text: String,
}

pub struct World {
    pub now: Time,
    pub weather: Weather,
    pub actions: Vec<Timed>,
    pub healed: bool,
    pub nodes: Vec<Node>,
    pub log: Log,
    pub leading: Option<Led>,
    pub epoch: u32,
    /// Since when there is a leader with a quorum.
    pub led_since: Time,
    /// For how long there was one before.
    pub led_before: Time,
    pub membership: BTreeSet<MemberId>,
    pub last_member: MemberId,
    pub nsqds: Vec<Nsqd>,
    pub strangers: Vec<Stranger>,
    pub producers: Vec<Rc<ProducerId>>,
    pub connections: Vec<Connection>,
    /// Those that a member or a client still has.
    pub open: Vec<ConnectionId>,
    pub watched: Watched,
    pub violation: Option<Violation>,
    /// What happened, if that is wanted.
    pub trace: Option<Vec<String>>,
    pub luck: Random,
    pub room: Room,
    /// A member that is further behind gets a snapshot.
    pub purged: usize,
    pub last_request: u32,
    queue: BinaryHeap<Reverse<Item>>,
    number: u64,
}

/// The leader, and what waits for its next entry.
pub struct Led {
    pub by: usize,
    pub leading: Leading,
    pub waiting: BTreeMap<MemberId, (Process, MemberBatch)>,
    pub own: Vec<raftlookupd_raft::storage::event::Event>,
    pub is_busy: bool,
}

struct Item {
    at: Time,
    number: u64,
    what: What,
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Says what happens, if anyone wants to know.
macro_rules! trace {
    ($world:expr, $($text:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            let (seconds, millis) = ($world.now / 1000, $world.now % 1000);
            trace.push(format!("{seconds:4}.{millis:03} {}", format_args!($($text)*)));
        }
    };
}
pub(crate) use trace;

/// Runs a world to its end.
pub fn run(weather: Weather, actions: Vec<Timed>, traced: bool) -> World {
    let mut world = World::new(weather, actions, traced);
    world.run();
    world
}

impl World {
    fn new(weather: Weather, actions: Vec<Timed>, traced: bool) -> Self {
        let mut luck = Random::new(weather.seed, 2);
        let producers = (0..NSQDS + STRANGERS).map(|number| {
            Rc::new(ProducerId {
                broadcast_address: format!("h{number}"),
                tcp_port: 4150,
            })
        });
        let small = luck.percent(30);
        let room = Room {
            first: 0,
            events: if small {
                luck.between(1, 3) as usize
            } else {
                4096
            },
            bytes: 128 * 1024,
        };
        let purged = luck.between(10, 80) as usize;
        let mut world = World {
            now: 0,
            weather,
            actions,
            healed: false,
            nodes: (0..MEMBERS)
                .map(|place| Node::new(weather.seed, place))
                .collect(),
            log: Log::default(),
            leading: None,
            epoch: 0,
            led_since: 0,
            led_before: 0,
            membership: (1..=MEMBERS as MemberId).collect(),
            last_member: MEMBERS as MemberId,
            nsqds: (0..NSQDS)
                .map(|number| Nsqd::new(weather, number))
                .collect(),
            strangers: (0..STRANGERS)
                .map(|number| Stranger::new(weather, number))
                .collect(),
            producers: producers.collect(),
            connections: Vec::new(),
            open: Vec::new(),
            watched: Watched::default(),
            violation: None,
            trace: traced.then(Vec::new),
            luck,
            room,
            purged,
            last_request: 0,
            queue: BinaryHeap::new(),
            number: 0,
        };
        for place in 0..MEMBERS {
            world.after(0, What::Start(place));
        }
        world.after(300, What::Elect);
        for number in 0..NSQDS {
            world.after(500, What::Restart(number, 0));
        }
        for place in 0..world.actions.len() {
            let at = world.actions[place].0;
            world.after(at, What::Do(place));
        }
        world.after(HEALED, What::Heal);
        world.after(1_000, What::Check);
        world
    }

    fn run(&mut self) {
        let mut events = 0;
        while let Some(Reverse(Item { at, what, .. })) = self.queue.pop() {
            if self.violation.is_some() || at > RESTED + QUIET {
                break;
            }
            if self.now < RESTED && at >= RESTED {
                self.now = RESTED;
                self.check_rest();
            }
            self.now = at;
            self.happen(what);
            events += 1;
            if events > 400_000 {
                self.violate("endless", String::from("too much happens"));
            }
        }
        if self.violation.is_none() {
            self.check_quiet();
        }
    }

    /// Something happens after this time.
    pub fn after(&mut self, time: Time, what: What) {
        self.number += 1;
        self.queue.push(Reverse(Item {
            at: self.now + time,
            number: self.number,
            what,
        }));
    }

    fn happen(&mut self, what: What) {
        let process = match &what {
            What::Load(process)
            | What::Tick(process)
            | What::CaughtUp(process)
            | What::Propose(process)
            | What::Deliver(process)
            | What::Decided(process, ..)
            | What::Apply(process, _)
            | What::Barrier(process, _)
            | What::Expire(process, _)
            | What::Receive(process, _) => Some(*process),
            _ => None,
        };
        if let Some((place, start)) = process {
            let node = &mut self.nodes[place];
            if !node.up || node.start != start {
                return;
            }
            if node.paused {
                node.held.push(what);
                return;
            }
        }
        match what {
            What::Do(number) => self.act(self.actions[number].1),
            What::Heal => self.heal(),
            What::Check => {
                self.check();
                self.after(1_000, What::Check);
            }
            What::Start(place) => self.start(place),
            What::Reachable(place) => self.reachable_again(place),
            What::Resume(place) => self.resume(place),
            What::Load((place, _)) => self.load(place),
            What::Tick((place, _)) => self.tick(place),
            What::CaughtUp((place, _)) => self.caught_up(place),
            What::Propose((place, _)) => self.propose(place),
            What::Deliver((place, _)) => self.deliver(place),
            What::Decided((place, _), batch, result) => self.decided(place, batch, &result),
            What::Apply((place, _), until) => self.apply(place, until),
            What::Barrier((place, _), ticket) => self.barrier(place, ticket),
            What::Expire((place, _), ticket) => self.expire(place, ticket),
            What::Receive((place, _), connection) => self.receive(place, connection),
            What::Elect => self.elect(),
            What::Look(epoch) => self.look(epoch),
            What::Commit(epoch) => self.commit(epoch),
            What::CommitLate(entry) => self.commit_late(entry),
            What::Arrive(connection, message) => self.arrive(connection, message),
            What::Answer(connection, number, open) => self.answered(connection, number, open),
            What::Impatience(connection, number) => self.impatient(connection, number),
            What::Ping(nsqd, start) => self.ping_time(nsqd, start),
            What::Next(nsqd, start) => self.next_command(nsqd, start),
            What::Restart(nsqd, start) => self.start_nsqd(nsqd, start),
            What::StrangerPings(stranger) => self.stranger_pings(stranger),
        }
    }

    /// The time, as a member knows it.
    pub fn time_at(&self, place: usize) -> Now {
        Now {
            moment: Duration::from_millis(self.now),
            clock: NOON + self.now - self.nodes[place].late,
        }
    }

    pub fn settings() -> Settings {
        Settings::with_timeout(Duration::from_millis(TIMEOUT))
    }

    pub fn violate(&mut self, kind: &'static str, text: String) {
        trace!(self, "VIOLATION {kind}: {text}");
        if self.violation.is_none() {
            self.violation = Some(Violation { kind, text });
        }
    }

    fn act(&mut self, action: Action) {
        if self.healed {
            return;
        }
        trace!(self, "--- {action}");
        match action {
            Action::Crash(place, time) => self.crash(place, Some(time)),
            Action::Cut(place, time) => self.cut(place, time),
            Action::Pause(place, time) => self.pause(place, time),
            Action::Lag(place, time) => self.nodes[place].lags_until = self.now + time,
            Action::Replace(place, time) => self.replace(place, time),
            Action::Rolling(apart) => {
                for place in 0..MEMBERS {
                    let down = apart / 3;
                    let at = self.now + apart * place as u64;
                    self.nodes[place].restarts_at = Some((at, down));
                }
            }
            Action::Lead => self.lose_leader(),
            Action::Break(nsqd, peer) => self.break_connection(nsqd, peer),
            Action::HalfOpen(nsqd, peer, noticed) => self.half_open(nsqd, peer, noticed),
            Action::Slow(nsqd, peer, time) => self.slow_down(nsqd, peer, time),
            Action::BreakNext(nsqd, peer, time) => self.break_next(nsqd, peer, time),
            Action::Burst(stranger, name, gives_up, ends) => {
                self.burst(stranger, name, gives_up, ends);
            }
            Action::Create(nsqd, name) => self.create(nsqd, name),
            Action::Drop(nsqd, name) => self.drop_name(nsqd, name),
            Action::Stop(nsqd, clean, again) => self.stop_nsqd(nsqd, clean, again),
            Action::Http(place, http, name) => self.request(place, http, name),
            Action::Open(stranger, place) => self.open_stranger(stranger, place),
            Action::Say(stranger, word) => self.stranger_says(stranger, word),
            Action::End(stranger, noticed) => self.end_stranger(stranger, noticed),
        }
    }

    /// Whatever is broken is repaired, and nothing breaks any more.
    fn heal(&mut self) {
        trace!(self, "--- all is well again");
        self.healed = true;
        for place in 0..MEMBERS {
            self.nodes[place].lags_until = 0;
            self.nodes[place].restarts_at = None;
            if self.nodes[place].paused {
                self.resume(place);
            }
            if self.nodes[place].cut {
                self.reachable_again(place);
            }
            if !self.nodes[place].up {
                self.start(place);
            }
        }
    }
}
