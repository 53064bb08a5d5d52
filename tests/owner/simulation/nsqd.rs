//! nsqds as nsqd 1.3.0 behaves: a PING to each lookupd every 15 s, one command after the other over
//! all of them, a second for each, a connection that fails is closed and dialled again for the next
//! command, and then everything is registered before that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::actions::Weather;
use super::names::Name;
use super::random::Random;
use super::wire::{Client, Command};
use super::world::{ConnectionId, Time, What, World, trace};

const PING: Time = 15_000;

const PATIENCE: Time = 1_000;

pub struct Nsqd {
    pub producer: usize,
    pub alive: bool,
    /// Its topics and channels.
    pub names: BTreeSet<Name>,
    /// Since when it has what it has, if not from the beginning, in time with a leader; never for
    /// long what was deleted at its lookupds.
    pub had_since: BTreeMap<Name, Time>,
    /// The places of its lookupds. One may be there twice: two ways to the same member.
    pub lookupds: Vec<usize>,
    pub connections: Vec<Option<ConnectionId>>,
    /// When something last kept it from its rhythm.
    pub disturbed: Time,
    pub since: Time,
    /// The same in time with a leader.
    pub since_led: Time,
    pub luck: Random,
    start: u32,
    jobs: VecDeque<Job>,
    /// Commands of the job for the lookupds, next one first.
    now_for: Option<Now>,
    slow: Vec<Time>,
    breaks: Vec<Option<Time>>,
}

#[derive(Debug, Clone, Copy)]
enum Job {
    Connect,
    Ping,
    /// A topic or channel has appeared or gone.
    Notify(Name),
}

/// What it is doing.
struct Now {
    command: Option<Command>,
    lookupd: usize,
    script: VecDeque<Command>,
    /// The command that is not answered yet.
    sent: Option<(ConnectionId, u32)>,
}

impl Nsqd {
    pub fn new(weather: Weather, number: usize) -> Self {
        let mut luck = Random::new(weather.seed, 20 + number as u64);
        let lookupds = match (number, weather.twins) {
            (0 | 1, _) | (3, true) => vec![0, 1, 2],
            (2, _) => vec![1, 2],
            _ => vec![vec![2], vec![0, 0, 1]][luck.index(2)].clone(),
        };
        Nsqd {
            producer: if weather.twins && number == 3 {
                2
            } else {
                number
            },
            alive: false,
            names: BTreeSet::from([Name::new(number % 2, None)]),
            had_since: BTreeMap::new(),
            connections: vec![None; lookupds.len()],
            slow: vec![0; lookupds.len()],
            breaks: vec![None; lookupds.len()],
            lookupds,
            disturbed: 0,
            since: 0,
            since_led: 0,
            luck,
            start: 0,
            jobs: VecDeque::new(),
            now_for: None,
        }
    }
}

impl World {
    pub fn start_nsqd(&mut self, number: usize, start: u32) {
        let led_for = self.led_for();
        let nsqd = &mut self.nsqds[number];
        if nsqd.alive || nsqd.start != start {
            return;
        }
        nsqd.alive = true;
        nsqd.since = self.now;
        nsqd.since_led = led_for;
        nsqd.disturbed = self.now;
        nsqd.jobs = VecDeque::from([Job::Connect]);
        nsqd.now_for = None;
        let first = nsqd.luck.between(1, PING);
        trace!(self, "n{number} starts");
        self.after(0, What::Next(number, start));
        self.after(first, What::Ping(number, start));
    }

    pub fn stop_nsqd(&mut self, number: usize, clean: bool, again: Option<Time>) {
        let nsqd = &mut self.nsqds[number];
        if !nsqd.alive {
            return;
        }
        nsqd.alive = false;
        nsqd.start += 1;
        let start = nsqd.start;
        let connections: Vec<ConnectionId> = nsqd
            .connections
            .iter_mut()
            .filter_map(Option::take)
            .collect();
        for connection in connections {
            let noticed = match clean {
                true => Some(1),
                false => self.late_end(number),
            };
            self.hang_up(connection, noticed);
        }
        if let Some(time) = again {
            self.after(time, What::Restart(number, start));
        }
    }

    fn late_end(&mut self, number: usize) -> Option<Time> {
        let luck = &mut self.nsqds[number].luck;
        (!luck.percent(20)).then(|| luck.between(1_000, 40_000))
    }

    pub fn create(&mut self, number: usize, name: Name) {
        let led_for = self.led_for();
        let nsqd = &mut self.nsqds[number];
        for name in [name.topic(), name] {
            if nsqd.names.insert(name) {
                nsqd.had_since.insert(name, led_for);
                nsqd.jobs.push_back(Job::Notify(name));
            }
        }
        self.go_on(number);
    }

    pub fn drop_name(&mut self, number: usize, name: Name) {
        let nsqd = &mut self.nsqds[number];
        for below in name.below().map(Name) {
            if nsqd.names.remove(&below) {
                nsqd.jobs.push_back(Job::Notify(below));
            }
        }
        self.go_on(number);
    }

    pub fn break_connection(&mut self, number: usize, peer: usize) {
        let peer = peer % self.nsqds[number].lookupds.len();
        if let Some(connection) = self.nsqds[number].connections[peer] {
            let place = self.connections[connection].place;
            self.nsqds[number].disturbed = self.now;
            self.reset(place, connection);
        }
    }

    pub fn break_next(&mut self, number: usize, peer: usize, time: Time) {
        let nsqd = &mut self.nsqds[number];
        let peer = peer % nsqd.lookupds.len();
        nsqd.breaks[peer] = Some(time);
    }

    /// The member's end of a connection breaks; the client finds out with its next command.
    pub fn reset(&mut self, place: usize, connection: ConnectionId) {
        if !self.nodes[place].paused {
            self.connections[connection].words.retract();
            self.send(connection, Command::End, 0);
        }
    }

    pub fn half_open(&mut self, number: usize, peer: usize, noticed: Option<Time>) {
        let peer = peer % self.nsqds[number].lookupds.len();
        if let Some(connection) = self.nsqds[number].connections[peer].take() {
            self.nsqds[number].disturbed = self.now;
            self.hang_up(connection, noticed);
        }
    }

    pub fn slow_down(&mut self, number: usize, peer: usize, time: Time) {
        let nsqd = &mut self.nsqds[number];
        let peer = peer % nsqd.lookupds.len();
        if self.weather.slow_links {
            nsqd.slow[peer] = time;
        }
    }

    pub fn ping_time(&mut self, number: usize, start: u32) {
        if self.nsqds[number].start != start || !self.nsqds[number].alive {
            return;
        }
        // A Go ticker drops ticks that nobody takes.
        if !self.nsqds[number]
            .jobs
            .iter()
            .any(|job| matches!(job, Job::Ping))
        {
            self.nsqds[number].jobs.push_back(Job::Ping);
        }
        self.after(PING, What::Ping(number, start));
        self.go_on(number);
    }

    fn go_on(&mut self, number: usize) {
        let nsqd = &self.nsqds[number];
        if nsqd.alive && nsqd.now_for.is_none() {
            let start = nsqd.start;
            self.after(0, What::Next(number, start));
        }
    }

    /// Sends the next command, if none is waiting.
    pub fn next_command(&mut self, number: usize, start: u32) {
        loop {
            let nsqd = &mut self.nsqds[number];
            if nsqd.start != start || !nsqd.alive {
                return;
            }
            let Some(now) = &mut nsqd.now_for else {
                let Some(job) = nsqd.jobs.pop_front() else {
                    return;
                };
                let command = match job {
                    Job::Connect => None,
                    Job::Ping => Some(Command::Ping),
                    Job::Notify(name) if nsqd.names.contains(&name) => {
                        Some(Command::Register(name))
                    }
                    Job::Notify(name) => Some(Command::Unregister(name)),
                };
                nsqd.now_for = Some(Now {
                    command,
                    lookupd: 0,
                    script: VecDeque::new(),
                    sent: None,
                });
                self.begin_lookupd(number);
                continue;
            };
            if now.sent.is_some() {
                return;
            }
            let lookupd = now.lookupd;
            let Some(command) = now.script.pop_front() else {
                now.lookupd += 1;
                match now.lookupd < nsqd.lookupds.len() {
                    true => self.begin_lookupd(number),
                    false => nsqd.now_for = None,
                }
                continue;
            };
            let Some(connection) = nsqd.connections[lookupd] else {
                now.script.clear();
                continue;
            };
            let time = match std::mem::take(&mut nsqd.slow[lookupd]) {
                0 => 1,
                time => {
                    nsqd.disturbed = self.now + time;
                    time
                }
            };
            let message = self.send(connection, command, time);
            if let Some(later) = self.nsqds[number].breaks[lookupd].take() {
                self.nsqds[number].disturbed = self.now;
                self.connections[connection].words.retract();
                self.send(connection, Command::End, time + later);
            }
            if let Some(now) = &mut self.nsqds[number].now_for {
                now.sent = Some((connection, message));
            }
            self.after(PATIENCE, What::Impatience(connection, message));
            return;
        }
    }

    /// What is to be sent to the job's next lookupd.
    fn begin_lookupd(&mut self, number: usize) {
        let nsqd = &self.nsqds[number];
        let Some(now) = &nsqd.now_for else {
            return;
        };
        let (lookupd, command) = (now.lookupd, now.command);
        let mut script = VecDeque::new();
        if nsqd.connections[lookupd].is_none() {
            let client = Client::Nsqd(number, lookupd);
            let connection = self.connect(client, nsqd.producer, nsqd.lookupds[lookupd]);
            let Some(connection) = connection else {
                return;
            };
            let nsqd = &mut self.nsqds[number];
            nsqd.connections[lookupd] = Some(connection);
            script.push_back(Command::Identify);
            for name in &nsqd.names {
                // A channel brings its topic.
                let mut channels = name.below().skip(1).map(Name);
                let covered = name.is_topic() && channels.any(|name| nsqd.names.contains(&name));
                if !covered {
                    script.push_back(Command::Register(*name));
                }
            }
        }
        script.extend(command);
        if let Some(now) = &mut self.nsqds[number].now_for {
            now.script = script;
        }
    }

    /// The answer to an nsqd's command has come, or the end of the connection.
    pub fn nsqd_answered(
        &mut self,
        number: usize,
        peer: usize,
        connection: ConnectionId,
        message: u32,
        open: bool,
    ) {
        let nsqd = &mut self.nsqds[number];
        let Some(now) = &mut nsqd.now_for else {
            return;
        };
        if now.sent != Some((connection, message)) {
            return;
        }
        now.sent = None;
        if !open {
            now.script.clear();
            if nsqd.connections[peer] == Some(connection) {
                nsqd.connections[peer] = None;
            }
            self.hang_up(connection, None);
        }
        let start = self.nsqds[number].start;
        self.after(0, What::Next(number, start));
    }

    /// No answer within a second: nsqd closes the connection.
    pub fn nsqd_impatient(
        &mut self,
        number: usize,
        peer: usize,
        connection: ConnectionId,
        message: u32,
    ) {
        let nsqd = &mut self.nsqds[number];
        let waits = nsqd.now_for.as_ref().and_then(|now| now.sent) == Some((connection, message));
        if !waits {
            return;
        }
        trace!(
            self,
            "n{number} has waited too long for connection {connection}"
        );
        self.nsqds[number].disturbed = self.now;
        let half_open = self.weather.slow_links && self.nsqds[number].luck.percent(30);
        let noticed = match half_open {
            true => self.late_end(number),
            false => Some(1),
        };
        self.hang_up(connection, noticed);
        self.nsqd_answered(number, peer, connection, message, false);
    }
}
