//! Many nsqds come back to a member that was restarted, and repeat all they have.
//!
//! `STORM_TOPICS` is how many registrations each has (50).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use support::cluster::Cluster;
use support::nsqd::Nsqd;

const NSQDS: usize = 200;

/// Lines that are sent before their answers are read.
const WINDOW: usize = 25;

/// Before those that were not told `OK` are sent again.
const BREATH: std::time::Duration = std::time::Duration::from_millis(500);

/// Raft's term, and how long the log is.
fn log_position(cluster: &Cluster, member: usize) -> (u64, u64) {
    let status = cluster.members[member].status().unwrap();
    let number = |name: &str| status[name].as_u64().unwrap();
    (number("term"), number("last_log_index"))
}

/// Each nsqd does something, all at the same time: one that says nothing for seconds after
/// IDENTIFY is taken to have no more than it has repeated.
fn for_each(nsqds: &mut [Nsqd], work: impl Fn(usize, &mut Nsqd) + Sync) {
    std::thread::scope(|threads| {
        for (number, nsqd) in nsqds.iter_mut().enumerate() {
            let work = &work;
            threads.spawn(move || work(number, nsqd));
        }
    });
}

fn connect(port: u16) -> Vec<Nsqd> {
    (0..NSQDS).map(|_| Nsqd::connect(port).unwrap()).collect()
}

fn identify(nsqds: &mut [Nsqd]) {
    for_each(nsqds, |number, nsqd| {
        let answer = nsqd.identify(&format!("h{number}")).unwrap();
        assert!(answer.starts_with('{'), "{answer}");
    });
}

/// Every nsqd registers all its topics; those that it is not told `OK` for, again. How many times
/// that was.
fn register(nsqds: &mut [Nsqd], topics: usize) -> u64 {
    let repetitions = AtomicU64::new(0);
    for_each(nsqds, |number, nsqd| {
        let mut left: Vec<usize> = (0..topics).collect();
        while !left.is_empty() {
            let mut unavailable = Vec::new();
            for window in left.chunks(WINDOW) {
                let line = |topic: &usize| format!("REGISTER h{number}-t{topic} billing\n");
                let lines: String = window.iter().map(line).collect();
                nsqd.send(lines.as_bytes()).unwrap();
                for topic in window {
                    let answer = nsqd.answer().unwrap();
                    if answer != "OK" {
                        assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
                        unavailable.push(*topic);
                    }
                }
            }
            left = unavailable;
            repetitions.fetch_add(left.len() as u64, Relaxed);
            if !left.is_empty() {
                // 200 that ask again at once would leave no processor for an election.
                std::thread::sleep(BREATH);
            }
        }
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
    });
    repetitions.into_inner()
}

#[test]
fn claims_that_are_there_already_cost_no_log_entry() {
    let topics = std::env::var("STORM_TOPICS").map_or(50, |topics| topics.parse().unwrap());
    let mut cluster = Cluster::start(3, &[]);
    let restarted = (cluster.leader() + 1) % 3;
    let present = (restarted + 1) % 3;
    let mut nsqds = connect(cluster.members[restarted].tcp);
    let empty = log_position(&cluster, present);
    identify(&mut nsqds);
    register(&mut nsqds, topics);
    let filled = log_position(&cluster, present);

    cluster.members[restarted].kill();
    cluster.members[restarted].start();
    cluster.members[restarted].wait_ready();
    let back = log_position(&cluster, present);
    let mut again = connect(cluster.members[restarted].tcp);
    identify(&mut again);
    // The last of them is committed when its nsqd is answered.
    let attached = log_position(&cluster, present);
    let started = std::time::Instant::now();
    let repetitions = register(&mut again, topics);
    let took = started.elapsed();
    let repeated = log_position(&cluster, present);
    println!(
        "{NSQDS} nsqds with {topics} registrations: (term, log index) was {empty:?}, {filled:?} \
         when registered, {back:?} after the restart, {attached:?} when attached again, \
         {repeated:?} when all was repeated, which took {took:?} with {repetitions} repetitions"
    );
    assert!(
        attached.1 - back.1 <= NSQDS as u64,
        "more than the sessions was logged"
    );
    // On a busy machine there may be an election, which costs an entry, and barriers that are not
    // passed in time: a claim that could not be confirmed then is recorded once more.
    let elections = repeated.0 - attached.0;
    let entries = repeated.1 - attached.1;
    assert!(
        entries <= elections + repetitions,
        "claims were logged: {entries} entries, {repetitions} repetitions"
    );
    let last = format!("h{}-t{}", NSQDS - 1, topics - 1);
    for member in &cluster.members {
        let hosts = member.lookup(&last).unwrap();
        assert_eq!(hosts, [format!("h{}", NSQDS - 1)]);
    }
}
