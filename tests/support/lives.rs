//! nsqds that are connected to all members, live for some seconds, and stop: within a minute they
//! must be gone, also from members that were down or cut off when they stopped.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::DEADLINE;
use super::history::{At, Write};
use super::load::{Ended, PAUSE, item};
use super::paths::ManyPaths;
use super::run::{Ports, Run};

const TOPICS: [&str; 3] = ["lives-0", "lives-1", "lives-2"];

/// How long a life lasts, in milliseconds.
const LIFE: std::ops::Range<u64> = 1_000..15_000;

/// Until when a stopped nsqd is gone, if all members are well: its sessions end with it.
const GONE: Duration = Duration::from_secs(5);

/// The same in any case: a member that is down or cut off is away after 3 s, and 45 s after its
/// nsqd ended elsewhere what only such a member holds goes.
const GONE_IN_ANY_CASE: Duration = Duration::from_secs(60);

/// Until when a topic that an nsqd gave up is gone in any case.
const GIVEN_UP: Duration = Duration::from_secs(15);

/// How long the consumers go on looking for an nsqd that has stopped.
const LOOKED_FOR: Duration = Duration::from_secs(90);

/// A life that is over; what its end means is known a little later.
struct Over {
    at: At,
    host: String,
    disturbances: Vec<u64>,
    /// The members with open sessions, and what [`Run::ends_of`] counted there.
    sessions: Vec<(usize, u64)>,
    /// By topic, from when on it must not be listed because it was given up.
    given_up: Vec<Option<At>>,
    /// By topic, whether a batch on its way may still record it.
    in_doubt: Vec<bool>,
}

/// One life after the other, until the run is over. The last one goes on.
pub fn lives(run: &Run, at: &[Ports], number: u64, seed: u64) -> Ended {
    let mut random = StdRng::seed_from_u64(seed ^ (number << 36));
    let mut over: Vec<Over> = Vec::new();
    for life in 0.. {
        let mut nsqd = ManyPaths::new(run, format!("l{number}-{life}"), at, &TOPICS);
        for path in 0..at.len() {
            (0..TOPICS.len()).for_each(|topic| nsqd.want(path, topic, true));
        }
        let mut given_up = vec![None; TOPICS.len()];
        let until = run.now() + Duration::from_millis(random.random_range(LIFE));
        while run.now() < until && !run.is_over() {
            std::thread::sleep(5 * PAUSE);
            let (known, open) = over
                .into_iter()
                .partition(|over| over.at + GONE < run.now());
            over = open;
            known.iter().for_each(|over: &Over| judge(run, over));
            let path = random.random_range(0..at.len());
            match random.random_range(0..100) {
                _ if !nsqd.is_open(path) => nsqd.connect(path),
                0..2 => nsqd.leave(path),
                2..10 => nsqd.ping(path),
                10 => {
                    let topic = random.random_range(0..TOPICS.len());
                    if given_up[topic].is_none() && nsqd.is_held(topic) {
                        given_up[topic] = give_up(run, &mut nsqd, topic, at.len());
                    }
                }
                _ => {}
            }
        }
        if run.is_over() {
            over.iter().for_each(|over| judge(run, over));
            let started = Instant::now();
            while started.elapsed() < DEADLINE && !(0..at.len()).all(|path| nsqd.say_all(path)) {
                std::thread::sleep(PAUSE);
            }
            return nsqd.into_ended();
        }
        let sessions = (0..at.len()).filter(|path| nsqd.is_alive(*path));
        let sessions = sessions.map(|path| (at[path].member, run.ends_of(at[path].member)));
        over.push(Over {
            sessions: sessions.collect(),
            disturbances: run.disturbances(),
            at: run.now(),
            host: nsqd.host.clone(),
            given_up,
            in_doubt: (0..TOPICS.len())
                .map(|topic| nsqd.is_in_doubt(topic))
                .collect(),
        });
        nsqd.end();
        for topic in TOPICS {
            run.watch(topic, &nsqd.host, Some(run.now() + LOOKED_FOR));
        }
    }
    unreachable!("lives follow one another without end")
}

/// An nsqd says to every lookupd that it reaches that a topic is gone, and never has it again.
fn give_up(run: &Run, nsqd: &mut ManyPaths<'_>, topic: usize, paths: usize) -> Option<At> {
    let began = run.now();
    let mut heard = false;
    for path in 0..paths {
        nsqd.want(path, topic, false);
        heard |= nsqd.give_up(path, topic);
    }
    // Heard nowhere, it is not listed after the next end of a session, whenever that is.
    let acknowledged = heard.then(|| run.now() + GIVEN_UP);
    let write = Write {
        listed: false,
        began,
        acknowledged,
    };
    nsqd.settle(topic, write);
    acknowledged
}

/// Notes until when an nsqd that stopped must be gone.
fn judge(run: &Run, over: &Over) {
    let all_well = over.sessions.len() == run.members()
        && over
            .disturbances
            .iter()
            .all(|count| count.is_multiple_of(2))
        && over.disturbances == run.disturbances()
        && over.at + GONE < run.now();
    let within = if all_well { GONE } else { GONE_IN_ANY_CASE };
    // Another member's word counts if that member lived to pass it on.
    let lived = |(member, ends): &&(usize, u64)| run.ends_of(*member) == *ends;
    let is_known = over.sessions.iter().filter(lived).count() > 1;
    for (number, topic) in TOPICS.iter().enumerate() {
        let gone = (over.at + within).max(over.given_up[number].unwrap_or_default());
        let write = |listed, acknowledged| Write {
            listed,
            began: over.at,
            acknowledged,
        };
        let mut writes = vec![write(false, is_known.then_some(gone))];
        if over.in_doubt[number] {
            writes.splice(0..0, [write(false, None), write(true, None)]);
        }
        for write in writes {
            run.note_write(&item(topic, &over.host), write);
        }
    }
}
