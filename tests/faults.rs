//! Members die, hang, lose each other and their disks while nsqds and consumers go on; what they
//! saw must have been possible with one nsqlookupd.
//!
//! `FAULT_SECONDS` makes the run longer, `FAULT_SEED` repeats its schedule of faults, and
//! `FAULT_ONLY` takes those whose names contain it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use support::cluster::Cluster;
use support::load::{Ports, Run, Writer, look_up};
use support::proxy::{Link, Links};
use support::{free_port, wait_until};

/// nsqds, spread over the members.
const NSQDS: usize = 6;

const FAULTS: [&str; 12] = [
    "kill leader",
    "kill follower",
    "pause leader",
    "pause follower",
    "isolate leader",
    "isolate follower",
    "cut towards",
    "cut from",
    "stall",
    "slow",
    "restart all",
    "wipe",
];

/// A cluster whose peer links run through proxies.
struct Faulty {
    cluster: Cluster,
    links: Links,
}

impl Faulty {
    fn start() -> Faulty {
        let mut cluster = Cluster::prepare(3, &["--snapshot-count=2000"]);
        let links = Links::default();
        let proxies: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let list: Vec<String> = cluster
            .members
            .iter()
            .zip(&proxies)
            .map(|(member, proxy)| format!("{}=127.0.0.1:{proxy}", member.name))
            .collect();
        for (number, (member, proxy)) in cluster.members.iter_mut().zip(&proxies).enumerate() {
            links.listen(*proxy, number, member.peer);
            member
                .args
                .push(format!("--initial-cluster={}", list.join(",")));
            member
                .args
                .push(format!("--peer-broadcast-address=127.0.0.1:{proxy}"));
        }
        let mut faulty = Faulty { cluster, links };
        for member in 0..3 {
            faulty.start_member(member);
        }
        faulty.cluster.wait_ready();
        faulty
    }

    fn start_member(&mut self, member: usize) {
        self.cluster.members[member].start();
        let pid = self.cluster.members[member].pid().unwrap();
        self.links.note_pid(pid, member);
    }

    fn signal(&self, member: usize, signal: &str) {
        let pid = self.cluster.members[member].pid().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Sets the links between a member and the others.
    fn link(&self, member: usize, inwards: Link, outwards: Link) {
        for other in (0..3).filter(|other| *other != member) {
            self.links.set(other, member, inwards);
            self.links.set(member, other, outwards);
        }
    }

    /// Injects the fault, lets it last, and heals it.
    fn suffer(&mut self, fault: &'static str, lasting: Duration, run: &Run, random: &mut StdRng) {
        let leader = self.cluster.leader();
        let follower = (leader + random.random_range(1..3)) % 3;
        let any = random.random_range(0..3);
        let last = || std::thread::sleep(lasting);
        run.begin_fault(fault);
        match fault {
            "kill leader" | "kill follower" | "wipe" => {
                let victim = if fault == "kill leader" {
                    leader
                } else {
                    follower
                };
                run.disturb(victim);
                self.cluster.members[victim].kill();
                last();
                if fault == "wipe" {
                    self.cluster.members[victim].wipe();
                    run.hold(victim, true);
                }
                self.start_member(victim);
                self.cluster.members[victim].wait_ready();
                if fault == "wipe" {
                    self.wait_for_removal(victim);
                    run.hold(victim, false);
                }
                run.disturb(victim);
            }
            "pause leader" | "pause follower" => {
                let victim = if fault == "pause leader" {
                    leader
                } else {
                    follower
                };
                run.disturb(victim);
                self.signal(victim, "-STOP");
                last();
                self.signal(victim, "-CONT");
                run.disturb(victim);
            }
            "restart all" => {
                for member in 0..3 {
                    run.disturb(member);
                    self.cluster.members[member].kill();
                }
                for member in 0..3 {
                    self.start_member(member);
                }
                self.cluster.wait_ready();
                (0..3).for_each(|member| run.disturb(member));
            }
            _ => {
                let (member, inwards, outwards) = match fault {
                    "isolate leader" => (leader, Link::Cut, Link::Cut),
                    "isolate follower" => (follower, Link::Cut, Link::Cut),
                    "cut towards" => (any, Link::Cut, Link::Pass),
                    "cut from" => (any, Link::Pass, Link::Cut),
                    "stall" => (any, Link::Stall, Link::Stall),
                    _ => {
                        let slow = Link::Slow(Duration::from_millis(20));
                        (any, slow, slow)
                    }
                };
                // Its own nsqds and readers cannot be served while it is cut off.
                run.disturb(member);
                self.link(member, inwards, outwards);
                last();
                self.links.heal();
                run.disturb(member);
            }
        }
        let healed = Instant::now();
        self.cluster.wait_ready();
        run.begin_fault("none");
        if healed.elapsed() > Duration::from_secs(5) {
            println!(
                "{:?} until all were ready again after {fault}:",
                healed.elapsed()
            );
            self.print_logs();
        }
    }

    /// The last lines of every member's log but those about nsqds and requests.
    fn print_logs(&self) {
        for member in &self.cluster.members {
            let log = member.log();
            let telling = log.lines().filter(|line| {
                !["nsqd", "HTTP", "closing the"]
                    .iter()
                    .any(|word| line.contains(word))
            });
            let telling: Vec<&str> = telling.collect();
            println!("--- {}", member.name);
            for line in &telling[telling.len().saturating_sub(30)..] {
                println!("{line}");
            }
        }
    }

    /// Waits until what the member was before it lost its disk is gone. Until then its claims
    /// count beside those that nsqds make at the new one: they are claims of another member.
    fn wait_for_removal(&self, wiped: usize) {
        let others = NSQDS - NSQDS / 3;
        wait_until("the lost member's nsqds are gone with it", || {
            let status = self.cluster.members[wiped].status();
            status.is_some_and(|status| status["attachments"].as_u64() <= Some(others as u64))
        });
    }

    fn ports(&self) -> Vec<Ports> {
        let members = self.cluster.members.iter().enumerate();
        members
            .map(|(member, its)| Ports {
                member,
                tcp: its.tcp,
                http: its.http,
            })
            .collect()
    }
}

/// Ends the run when it goes out of scope, so that a failed check does not wait for ever.
struct Ending<'a>(&'a Run);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[test]
#[ignore = "a run of its own on an otherwise idle machine; see docs/testing.md"]
fn whatever_fails_the_answers_are_those_of_one_nsqlookupd() {
    let seconds = std::env::var("FAULT_SECONDS").ok();
    let seconds: u64 = seconds.map_or(40, |seconds| seconds.parse().unwrap());
    let seed = std::env::var("FAULT_SEED").ok();
    let seed: u64 = seed.map_or_else(
        || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs()
        },
        |seed| seed.parse().unwrap(),
    );
    println!(
        "FAULT_SEED={seed} FAULT_SECONDS={seconds} \
         cargo test --release --test faults -- --ignored --nocapture"
    );

    let only = std::env::var("FAULT_ONLY").unwrap_or_default();
    let chosen = |fault: &&str| fault.contains(&only);
    let faults: Vec<&'static str> = FAULTS.into_iter().filter(chosen).collect();

    let mut faulty = Faulty::start();
    let ports = faulty.ports();
    let run = Run::new(3);
    let mut injected: BTreeMap<&str, usize> = BTreeMap::new();
    let mut random = StdRng::seed_from_u64(seed);
    let began = Instant::now();

    let sessions = std::thread::scope(|threads| {
        let writers: Vec<_> = (0..NSQDS)
            .map(|number| Writer::new(&run, ports[number % 3], number, seed))
            .map(|writer| threads.spawn(|| writer.work()))
            .collect();
        for at in &ports {
            let (run, at) = (&run, *at);
            threads.spawn(move || look_up(run, at, NSQDS, seed));
        }
        {
            let _ending = Ending(&run);
            let mut order: Vec<&'static str> = Vec::new();
            while began.elapsed() < Duration::from_secs(seconds) {
                // Each once, then at random.
                let fault = match faults.iter().find(|fault| !order.contains(fault)) {
                    Some(fault) if seconds > 120 => fault,
                    _ => faults.choose(&mut random).unwrap(),
                };
                order.push(fault);
                let lasting = Duration::from_millis(random.random_range(300..3_000));
                println!("{:>7.1?} {fault} for {lasting:?}", began.elapsed());
                faulty.suffer(fault, lasting, &run, &mut random);
                *injected.entry(fault).or_default() += 1;
                std::thread::sleep(Duration::from_millis(random.random_range(100..1_000)));
            }
        }
        let ended = writers.into_iter().map(|writer| writer.join().unwrap());
        ended.collect::<Vec<_>>()
    });

    println!(
        "\n{:<18} {:>8} {:>12} {:>12}",
        "fault", "injected", "write gap", "lookup gap"
    );
    for (fault, gaps) in run.gaps() {
        let times = injected.get(fault).copied().unwrap_or(0);
        println!(
            "{fault:<18} {times:>8} {:>12.1?} {:>12.1?}",
            gaps.write, gaps.lookup
        );
    }
    let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
    let violations = run.violations();
    println!(
        "{} writes ({} unknown), {} lookups ({} stale, {} refused), {} violations",
        count(&run.writes),
        count(&run.unknown),
        count(&run.reads),
        count(&run.stale),
        count(&run.refused),
        violations.len()
    );
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(count(&run.reads) > 100 && count(&run.writes) > 100);

    // What the nsqds have, and nothing else, is what every member lists.
    for (has, _session) in &sessions {
        for (topic, listed) in has {
            for member in &faulty.cluster.members {
                wait_until(
                    &format!("{topic} at {} is listed: {listed}", member.name),
                    || {
                        let found =
                            member.get(&format!("/lookup?topic={topic}&consistency=linearizable"));
                        found.is_some_and(|answer| {
                            answer.body.contains("broadcast_address") == *listed
                        })
                    },
                );
            }
        }
    }
    let hashes = faulty.cluster.state_hashes();
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "{hashes:?}"
    );
}
