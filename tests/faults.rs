//! Members die, hang, lose each other and their disks while nsqds, operators and consumers go on;
//! what they saw must have been possible with one nsqlookupd.
//!
//! `FAULT_SECONDS` makes the run longer, `FAULT_SEED` repeats its schedule of faults, and
//! `FAULT_ONLY` takes those whose names contain it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use support::faults::{Fault, Faulty};
use support::lives::lives;
use support::load::{Ended, Writer, lists, look_up, operate};
use support::paths::two_paths;
use support::run::Run;
use support::wait_until;

/// nsqds that are connected to one member each, spread over the members.
const NSQDS: usize = 6;

/// nsqds at a time that are connected to all members.
const LIVES: u64 = 3;

/// Runs that take less leave out what lasts for more than a minute.
const LONG: u64 = 600;

/// Ends the run when it goes out of scope, so that a failed check does not wait for ever.
struct Ending<'a>(&'a Run);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap())
}

#[test]
fn whatever_fails_the_answers_are_those_of_one_nsqlookupd() {
    let seconds = setting("FAULT_SECONDS").unwrap_or(45);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = setting("FAULT_SEED").unwrap_or(now.as_secs());
    let only = std::env::var("FAULT_ONLY").unwrap_or_default();
    println!(
        "FAULT_SEED={seed} FAULT_SECONDS={seconds} FAULT_ONLY='{only}' \
         cargo test --release --test faults -- --nocapture"
    );
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Fault::ALL.to_vec();
    let fits = |fault: &Fault| {
        fault.longer() < Duration::from_secs(10) || seconds >= LONG || !only.is_empty()
    };
    faults.retain(|fault| fault.name().contains(&only) && fits(fault));

    let mut faulty = Faulty::start(&["--snapshot-count=2000"]);
    let ports = faulty.ports();
    let run = Run::new(3, NSQDS);
    let mut injected: BTreeMap<&str, usize> = BTreeMap::new();
    let began = Instant::now();

    let ended: Vec<Ended> = std::thread::scope(|threads| {
        let mut writers: Vec<_> = (0..NSQDS)
            .map(|number| Writer::new(&run, ports[number % 3], number, seed))
            .map(|writer| threads.spawn(|| writer.work()))
            .collect();
        let (run, ports) = (&run, &ports);
        writers.extend(
            ports
                .iter()
                .map(|at| threads.spawn(|| two_paths(run, *at, seed))),
        );
        let each = 0..LIVES;
        writers.extend(each.map(|number| threads.spawn(move || lives(run, ports, number, seed))));
        for at in ports.iter().copied() {
            threads.spawn(move || look_up(run, at, seed));
            threads.spawn(move || operate(run, at, seed));
        }
        {
            let _ending = Ending(run);
            // Each once, then at random.
            let mut next = faults.clone();
            next.shuffle(&mut random);
            while began.elapsed() < Duration::from_secs(seconds) {
                let fault = next.pop();
                let fault = fault.unwrap_or_else(|| *faults.choose(&mut random).unwrap());
                let lasting =
                    fault.longer() + Duration::from_millis(random.random_range(300..2_500));
                let at = began.elapsed();
                faulty.suffer(fault, lasting, run, &mut random);
                let mended = (began.elapsed() - at).saturating_sub(lasting);
                println!(
                    "{at:>8.1?} {} for {lasting:?}, mended in {mended:.1?}",
                    fault.name()
                );
                *injected.entry(fault.name()).or_default() += 1;
                std::thread::sleep(Duration::from_millis(random.random_range(100..1_000)));
            }
        }
        let ended = writers.into_iter().map(|writer| writer.join().unwrap());
        ended.collect()
    });

    let violations = run.violations();
    print_summary(&run, &injected, violations.len());
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!(
        run.unexcused.load(Ordering::Relaxed),
        0,
        "a lookup failed at a member that nothing had happened to"
    );
    assert!(run.reads.load(Ordering::Relaxed) > 100 && run.writes.load(Ordering::Relaxed) > 100);
    check_end(&faulty, &ended);
}

fn print_summary(run: &Run, injected: &BTreeMap<&str, usize>, violations: usize) {
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
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "{} faults, {} writes ({} unknown) and {} refused, \
         {} lookups ({} stale) and {} unanswered ({} by members in good health), \
         {violations} violations",
        injected.values().sum::<usize>(),
        count(&run.writes),
        count(&run.unknown),
        count(&run.refused),
        count(&run.reads),
        count(&run.stale),
        count(&run.unanswered),
        count(&run.unexcused),
    );
}

/// What the nsqds have, and nothing else, is what every member lists; and all hold the same.
fn check_end(faulty: &Faulty, ended: &[Ended]) {
    for nsqd in ended {
        for (topic, has) in &nsqd.has {
            for member in &faulty.cluster.members {
                let what = format!("{topic} at {}, {}: {has}", member.name, nsqd.host);
                wait_until(&what, || {
                    let target = format!("/lookup?topic={topic}&consistency=linearizable");
                    let found = member.get(&target);
                    found.is_some_and(|found| {
                        [200, 404].contains(&found.status) && lists(&found, &nsqd.host) == *has
                    })
                });
            }
        }
    }
    let hashes = faulty.cluster.state_hashes();
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "{hashes:?}"
    );
}
