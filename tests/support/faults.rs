//! What can happen to a cluster, and how it is made to happen and mended again.

use std::process::Command;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::cluster::Cluster;
use super::http::Answer;
use super::load::lists;
use super::proxy::{Link, Links};
use super::run::{Ports, Run};
use super::{free_port, wait_until};

/// Each leaves a majority of the members alone, but for `RestartAll`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillLeader,
    KillFollower,
    /// SIGTERM and a start.
    StopLeader,
    PauseLeader,
    PauseFollower,
    /// Cut off in both directions.
    IsolateLeader,
    IsolateFollower,
    /// Nobody can dial the member; it can dial the others.
    CutTowards,
    CutFrom,
    /// What is sent to and from the member vanishes; the connections stay.
    Stall,
    /// Everything to and from the member takes 20 to 40 ms longer, in each direction.
    Slow,
    /// What the member sends to those that it dials arrives after it has given up and sent it
    /// again.
    Delayed,
    RestartAll,
    Wipe,
    /// Down for long enough to be found away.
    Away,
    /// Down for longer than anything it holds of nsqds that stop meanwhile is kept.
    Absent,
}

/// A member is found away 3 s after its last keep-alive.
const AWAY: Duration = Duration::from_secs(4);

/// What only an absent member holds of an nsqd goes 45 s after that stopped.
const ABSENT: Duration = Duration::from_secs(70);

impl Fault {
    pub const ALL: [Fault; 16] = [
        Fault::KillLeader,
        Fault::KillFollower,
        Fault::StopLeader,
        Fault::PauseLeader,
        Fault::PauseFollower,
        Fault::IsolateLeader,
        Fault::IsolateFollower,
        Fault::CutTowards,
        Fault::CutFrom,
        Fault::Stall,
        Fault::Slow,
        Fault::Delayed,
        Fault::RestartAll,
        Fault::Wipe,
        Fault::Away,
        Fault::Absent,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::KillLeader => "kill leader",
            Fault::KillFollower => "kill follower",
            Fault::StopLeader => "stop leader",
            Fault::PauseLeader => "pause leader",
            Fault::PauseFollower => "pause follower",
            Fault::IsolateLeader => "isolate leader",
            Fault::IsolateFollower => "isolate follower",
            Fault::CutTowards => "cut towards",
            Fault::CutFrom => "cut from",
            Fault::Stall => "stall",
            Fault::Slow => "slow",
            Fault::Delayed => "delayed",
            Fault::RestartAll => "restart all",
            Fault::Wipe => "wipe",
            Fault::Away => "away",
            Fault::Absent => "absent",
        }
    }

    /// How much longer it lasts than others.
    pub fn longer(self) -> Duration {
        match self {
            Fault::Away => AWAY,
            Fault::Absent => ABSENT,
            _ => Duration::ZERO,
        }
    }

    /// The member it happens to, given the leader.
    fn victim(self, leader: usize, random: &mut StdRng) -> usize {
        match self {
            Fault::KillLeader | Fault::StopLeader | Fault::PauseLeader | Fault::IsolateLeader => {
                leader
            }
            Fault::KillFollower
            | Fault::PauseFollower
            | Fault::IsolateFollower
            | Fault::Wipe
            | Fault::Away
            | Fault::Absent => (leader + random.random_range(1..3)) % 3,
            _ => random.random_range(0..3),
        }
    }

    /// What it does to the links that lead to the victim, and those on which it dials.
    fn links(self, random: &mut StdRng) -> Option<(Link, Link)> {
        match self {
            Fault::IsolateLeader | Fault::IsolateFollower => Some((Link::Cut, Link::Cut)),
            Fault::CutTowards => Some((Link::Cut, Link::Pass)),
            Fault::CutFrom => Some((Link::Pass, Link::Cut)),
            Fault::Stall => Some((Link::Stall, Link::Stall)),
            Fault::Slow => {
                let slow = Link::Slow(Duration::from_millis(random.random_range(20..40)));
                Some((slow, slow))
            }
            Fault::Delayed => {
                let late = Duration::from_millis(random.random_range(1_050..1_600));
                Some((Link::Pass, Link::Slow(late)))
            }
            _ => None,
        }
    }
}

/// Three members whose peer links run through proxies.
pub struct Faulty {
    pub cluster: Cluster,
    pub links: Links,
}

impl Faulty {
    pub fn start(args: &[&str]) -> Faulty {
        let mut cluster = Cluster::prepare(3, args);
        let names = cluster.members.iter().map(|member| member.name.clone());
        let links = Links::new(names.collect());
        let proxies: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let list: Vec<String> = cluster
            .members
            .iter()
            .zip(&proxies)
            .map(|(member, proxy)| format!("{}=127.0.0.1:{proxy}", member.name))
            .collect();
        for (number, (member, proxy)) in cluster.members.iter_mut().zip(&proxies).enumerate() {
            links.listen(*proxy, number, member.peer);
            // The last one counts.
            member
                .args
                .push(format!("--initial-cluster={}", list.join(",")));
            member
                .args
                .push(format!("--peer-broadcast-address=127.0.0.1:{proxy}"));
        }
        let mut faulty = Faulty { cluster, links };
        (0..3).for_each(|member| faulty.start_member(member));
        faulty.cluster.wait_ready();
        faulty
    }

    pub fn start_member(&mut self, member: usize) {
        self.cluster.members[member].start();
        self.links.up(member);
    }

    pub fn kill(&mut self, member: usize) {
        self.links.down(member);
        self.cluster.members[member].kill();
    }

    /// SIGSTOP.
    pub fn pause(&self, member: usize) {
        self.signal(member, "-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self, member: usize) {
        self.signal(member, "-CONT");
    }

    fn signal(&self, member: usize, signal: &str) {
        let pid = self.cluster.members[member].pid().unwrap().to_string();
        let told = Command::new("kill").args([signal, &pid]).status();
        assert!(told.unwrap().success());
    }

    pub fn ports(&self) -> Vec<Ports> {
        let members = self.cluster.members.iter().enumerate();
        members
            .map(|(member, its)| Ports {
                member,
                tcp: its.tcp,
                http: its.http,
            })
            .collect()
    }

    /// Injects the fault, lets it last, heals it, and waits until all is well.
    pub fn suffer(&mut self, fault: Fault, lasting: Duration, run: &Run, random: &mut StdRng) {
        let victim = fault.victim(self.cluster.leader(), random);
        let links = fault.links(random);
        // What the victim itself can serve meanwhile says nothing of the others.
        let disturbed: Vec<usize> = match fault {
            Fault::RestartAll => vec![0, 1, 2],
            _ => vec![victim],
        };
        run.begin_fault(fault.name());
        disturbed.iter().for_each(|member| run.disturb(*member));
        let last = || std::thread::sleep(lasting);
        match fault {
            Fault::KillLeader | Fault::KillFollower | Fault::Away | Fault::Absent => {
                run.ends(victim);
                self.kill(victim);
                last();
                self.start_member(victim);
            }
            Fault::StopLeader => {
                run.ends(victim);
                self.cluster.members[victim].terminate();
                self.links.down(victim);
                last();
                self.start_member(victim);
            }
            Fault::Wipe => self.wipe(victim, lasting, run),
            Fault::PauseLeader | Fault::PauseFollower => {
                self.pause(victim);
                last();
                self.resume(victim);
            }
            Fault::RestartAll => {
                (0..3).for_each(|member| run.ends(member));
                (0..3).for_each(|member| self.kill(member));
                (0..3).for_each(|member| self.start_member(member));
            }
            _ => {
                let (inwards, outwards) = links.unwrap();
                self.links.around(victim, inwards, outwards);
                last();
                self.links.heal();
            }
        }
        self.cluster.wait_ready();
        disturbed.iter().for_each(|member| run.disturb(*member));
        run.end_fault();
    }

    /// A member comes back without its data, as a new one. Until the old one is removed, claims at
    /// it count beside those that the same nsqds make at the new one: the nsqds wait.
    fn wipe(&mut self, victim: usize, lasting: Duration, run: &Run) {
        let hosts = run.hosts_at(victim);
        self.kill(victim);
        std::thread::sleep(lasting);
        self.cluster.members[victim].wipe();
        run.hold(victim, true);
        self.start_member(victim);
        self.cluster.members[victim].wait_ready();
        wait_until("the lost member's nsqds are gone with it", || {
            let nodes = self.cluster.members[victim].get("/nodes?consistency=linearizable");
            let listed = |nodes: &Answer| hosts.iter().any(|host| lists(nodes, host));
            nodes.is_some_and(|nodes| nodes.status == 200 && !listed(&nodes))
        });
        run.hold(victim, false);
    }
}
