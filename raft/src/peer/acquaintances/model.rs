//! A model of who may speak for a member: copied, restored, restarted and cut-off members at
//! random, over a Raft that is simplified to whole logs.
//!
//! At most one member is down, cut off or out at any time, one of them only is put back to older
//! copies (such a copy has also forgotten what it knew of the others), and what members know of each other is
//! stored at once (the real ones do that every two seconds). Then no acknowledged write is lost, no
//! term has two leaders, and nothing is accepted of a process that has forgotten what its node
//! promised.

use std::collections::{BTreeMap, BTreeSet};

use super::{Acquaintances, Stored};
use crate::peer::lineage::{Lineage, Promises};

const SEEDS: u64 = 3_000;
const STEPS: usize = 120;
const NODES: usize = 3;

/// What is switched off, to see that the model notices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    All,
    /// Nobody dials back.
    NoAddress,
    /// Nobody asks what a process remembers.
    NoMemory,
}

/// Simple and reproducible.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

#[derive(Clone, Default)]
struct Disk {
    lineage: Lineage,
    term: u64,
    /// (term, value)
    log: Vec<(u64, u64)>,
    stored: Stored,
}

impl Disk {
    fn promises(&self) -> Promises {
        Promises {
            term: self.term,
            next: self.log.len() as u64,
        }
    }

    fn age(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |last| last.0), self.log.len())
    }
}

struct Process {
    node: usize,
    address: usize,
    alive: bool,
    /// It was told that it has forgotten something, or is a copy.
    out: bool,
    disk: Disk,
    peers: Acquaintances,
    leads: Option<u64>,
}

struct World {
    rules: Rules,
    random: Random,
    next: u64,
    processes: Vec<Process>,
    /// The recorded address of each node is its number. The process that is reached there.
    at: BTreeMap<usize, usize>,
    connections: BTreeSet<(usize, usize)>,
    cut_off: Option<usize>,
    /// The node that copies are restored of.
    restored: usize,
    /// By node.
    copies: Vec<(usize, Disk)>,
    acknowledged: Vec<u64>,
    leaders: BTreeMap<u64, usize>,
    /// What each node has promised to processes that accepted it, and to what lineage.
    promised: Vec<Promises>,
}

impl World {
    fn new(seed: u64, rules: Rules) -> World {
        let mut world = World {
            rules,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            next: 1,
            processes: Vec::new(),
            at: BTreeMap::new(),
            connections: BTreeSet::new(),
            cut_off: None,
            restored: usize::try_from(seed).unwrap() % NODES,
            copies: Vec::new(),
            acknowledged: Vec::new(),
            leaders: BTreeMap::new(),
            promised: vec![Promises::default(); NODES],
        };
        for node in 0..NODES {
            world.start(node, node, Disk::default());
        }
        world
    }

    fn draw(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A new process. It asks all that it can reach before it takes part.
    fn start(&mut self, node: usize, address: usize, mut disk: Disk) -> usize {
        let found = disk.promises();
        disk.lineage.begin(self.draw(), found);
        let process = Process {
            node,
            address,
            alive: true,
            out: false,
            peers: Acquaintances::from_stored(disk.stored.clone()),
            disk,
            leads: None,
        };
        self.processes.push(process);
        let new = self.processes.len() - 1;
        self.at.insert(address, new);
        if self.reached(new, node).is_some_and(|there| there != new) {
            self.processes[new].out = self.rules != Rules::NoAddress;
        }
        for other in 0..NODES {
            if let Some(there) = self.reached(new, other).filter(|_| other != node)
                && !self.remembers(there, new)
            {
                self.processes[new].out = true;
            }
        }
        new
    }

    fn stop(&mut self, process: usize) {
        self.processes[process].alive = false;
        self.connections
            .retain(|(from, to)| *from != process && *to != process);
        let address = self.processes[process].address;
        if self.at.get(&address) == Some(&process) {
            self.at.remove(&address);
        }
    }

    fn linked(&self, one: usize, other: usize) -> bool {
        let cut = |process: usize| Some(self.processes[process].node) == self.cut_off;
        one == other || !(cut(one) || cut(other))
    }

    /// The process that this one reaches at the address of a node.
    fn reached(&self, from: usize, node: usize) -> Option<usize> {
        let there = *self.at.get(&node)?;
        (self.processes[there].alive && self.linked(from, there)).then_some(there)
    }

    /// Whether a process has what a peer knows of it.
    fn remembers(&self, peer: usize, subject: usize) -> bool {
        let (peer, subject) = (&self.processes[peer], &self.processes[subject]);
        let known = peer.peers.known(subject.node as u64, 0);
        self.rules == Rules::NoMemory
            || known.is_none_or(|known| subject.disk.lineage.remembers(&known))
    }

    fn id(&self, process: usize) -> u64 {
        self.processes[process].disk.lineage.current().unwrap()
    }

    fn speaks(&self, to: usize, from: usize) -> bool {
        let node = self.processes[from].node as u64;
        self.processes[to].peers.speaks(node, self.id(from))
    }

    /// Notes a process as the one that speaks for its node, durably.
    fn note(&mut self, at: usize, of: usize) {
        let (node, start) = (self.processes[of].node, self.id(of));
        let peers = &mut self.processes[at].peers;
        peers.note(node as u64, start, "", "");
        peers.reached(node as u64, start);
    }

    /// Dials a node. Both sides check the other.
    fn dial(&mut self, from: usize, node: usize) -> Option<usize> {
        let there = self.reached(from, node)?;
        if !self.remembers(from, there) {
            self.processes[there].out = true;
            return None;
        }
        if !self.speaks(there, from) {
            let back = self.reached(there, self.processes[from].node);
            let is_there = back == Some(from) || self.rules == Rules::NoAddress;
            if !is_there || !self.remembers(there, from) {
                return None;
            }
            self.note(there, from);
        }
        self.note(from, there);
        self.connections.insert((from, there));
        Some(there)
    }

    /// The process that a node's messages go to: over the connection that there is, or a new one.
    fn connected(&mut self, from: usize, node: usize) -> Option<usize> {
        let usable = |to: usize| {
            self.processes[to].node == node
                && self.processes[to].alive
                && self.linked(from, to)
                && self.speaks(from, to)
                && self.speaks(to, from)
        };
        let open = self.connections.iter();
        let mut open = open.filter(|(ours, to)| *ours == from && usable(*to));
        match open.next() {
            Some((_, to)) => Some(*to),
            None => self.dial(from, node),
        }
        .filter(|to| !self.processes[*to].out)
    }

    /// A process has accepted a promise of another.
    fn accept(&mut self, by: usize, of: usize, promised: Promises) {
        let node = self.processes[of].node;
        let had = self.processes[of].disk.promises();
        assert!(
            had >= self.promised[node],
            "node {node} has forgotten {:?}, it has {had:?}",
            self.promised[node]
        );
        self.promised[node] = self.promised[node].max(promised);
        self.processes[by].peers.promised(node as u64, promised);
    }

    fn others(&self, process: usize) -> Vec<usize> {
        let own = self.processes[process].node;
        (0..NODES).filter(|node| *node != own).collect()
    }

    fn campaign(&mut self, candidate: usize) {
        let process = &mut self.processes[candidate];
        process.disk.term += 1;
        process.leads = None;
        let (term, age) = (process.disk.term, process.disk.age());
        let mut votes = 1;
        for node in self.others(candidate) {
            let Some(voter) = self.connected(candidate, node) else {
                continue;
            };
            // The candidate has voted for itself.
            self.accept(voter, candidate, Promises { term, next: 0 });
            let disk = &mut self.processes[voter].disk;
            if disk.term >= term {
                continue;
            }
            disk.term = term;
            let granted = disk.age() <= age;
            self.processes[voter].leads = None;
            if granted {
                votes += 1;
                self.accept(candidate, voter, Promises { term, next: 0 });
            }
        }
        if votes * 2 > NODES {
            self.lead(candidate, term);
        }
    }

    fn lead(&mut self, leader: usize, term: u64) {
        let before = self.leaders.insert(term, leader);
        assert!(before.is_none(), "term {term} has two leaders");
        let log = &self.processes[leader].disk.log;
        for value in &self.acknowledged {
            let there = log.iter().any(|(_, logged)| logged == value);
            assert!(there, "write {value} is lost in term {term}");
        }
        self.processes[leader].leads = Some(term);
        self.write(leader, term);
    }

    fn write(&mut self, leader: usize, term: u64) {
        let value = self.draw();
        self.processes[leader].disk.log.push((term, value));
        let log = self.processes[leader].disk.log.clone();
        let next = log.len() as u64;
        let mut followers = Vec::new();
        for node in self.others(leader) {
            // Some messages are late.
            if self.random.below(4) == 0 {
                continue;
            }
            let Some(follower) = self.connected(leader, node) else {
                continue;
            };
            let disk = &mut self.processes[follower].disk;
            if disk.term > term {
                self.processes[leader].leads = None;
                return;
            }
            disk.term = term;
            if !disk.log.starts_with(&log) {
                disk.log.clone_from(&log);
            }
            self.processes[follower].leads = None;
            self.accept(leader, follower, Promises { term, next });
            followers.push(follower);
        }
        let committed = (followers.len() + 1) * 2 > NODES;
        if committed {
            self.acknowledged.push(value);
        }
        // The next heartbeat tells what is committed, which the leader has on its disk.
        let next = if committed { next } else { 0 };
        for follower in followers {
            self.accept(follower, leader, Promises { term, next });
        }
    }

    fn alive(&self, node: usize) -> Vec<usize> {
        let processes = self.processes.iter().enumerate();
        let alive = processes.filter(|(_, process)| process.alive && process.node == node);
        alive.map(|(index, _)| index).collect()
    }

    /// The process of each node that counts: not a clone.
    fn member(&self, node: usize) -> Option<usize> {
        let there = self.at.get(&node).copied();
        there.filter(|there| self.processes[*there].alive)
    }

    fn step(&mut self) {
        let all: Vec<usize> = (0..NODES).flat_map(|node| self.alive(node)).collect();
        let one = all[self.random.below(all.len())];
        let node = self.processes[one].node;
        let serves = |node| {
            self.member(node)
                .is_some_and(|there| !self.processes[there].out)
        };
        let whole = self.cut_off.is_none() && (0..NODES).all(serves);
        match self.random.below(20) {
            0..=9 => {
                if let Some(term) = self.processes[one].leads {
                    self.write(one, term);
                }
            }
            10 | 11 if !self.processes[one].out => self.campaign(one),
            12 if whole => self.restart(node, false),
            13 if whole => self.restart(self.restored, true),
            14 if self.processes.len() < 12 => self.clone_of(one),
            15 if whole => self.cut_off = Some(node),
            16 => self.cut_off = None,
            17 | 18 => self.copy(one),
            _ => {}
        }
    }

    fn restart(&mut self, node: usize, restored: bool) {
        let Some(member) = self.member(node) else {
            return;
        };
        let copies = self.copies.iter().filter(|(of, _)| *of == node);
        let copies: Vec<Disk> = copies.map(|(_, disk)| disk.clone()).collect();
        if restored && copies.is_empty() {
            return;
        }
        let disk = match restored {
            true => copies[self.random.below(copies.len())].clone(),
            false => self.stored(member),
        };
        self.stop(member);
        self.start(node, node, disk);
    }

    /// At an address of its own; a clone that is out ends.
    fn clone_of(&mut self, one: usize) {
        let (node, disk) = (self.processes[one].node, self.stored(one));
        let address = NODES + self.processes.len();
        let clone = self.start(node, address, disk);
        if self.processes[clone].out {
            self.stop(clone);
        }
    }

    /// What a process leaves on its disk.
    fn stored(&self, one: usize) -> Disk {
        let process = &self.processes[one];
        Disk {
            stored: process.peers.to_stored(),
            ..process.disk.clone()
        }
    }

    fn copy(&mut self, one: usize) {
        let node = self.processes[one].node;
        self.copies.push((node, self.stored(one)));
    }
}

/// How many writes were acknowledged; panics where something is wrong.
fn run(seed: u64, rules: Rules) -> usize {
    let mut world = World::new(seed, rules);
    for _ in 0..STEPS {
        world.step();
    }
    world.acknowledged.len()
}

/// How many of the seeds go wrong.
fn wrong(rules: Rules) -> usize {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failed = (1..=300).filter(|seed| {
        let seed = *seed;
        std::panic::catch_unwind(move || run(seed, rules)).is_err()
    });
    let failed = failed.count();
    std::panic::set_hook(hook);
    failed
}

#[test]
fn nothing_that_was_acknowledged_is_lost() {
    let acknowledged: usize = (1..=SEEDS)
        .map(|seed| {
            std::panic::catch_unwind(move || run(seed, Rules::All))
                .unwrap_or_else(|_| panic!("seed {seed}"))
        })
        .sum();
    assert!(acknowledged > 10_000, "{acknowledged}");
}

#[test]
fn without_either_rule_it_would_be() {
    for rules in [Rules::NoAddress, Rules::NoMemory] {
        assert!(wrong(rules) > 5);
    }
}
