//! What is done to the world, and when: drawn from the seed before anything runs, so that a failing
//! list can be shortened.

use std::fmt;

use super::names::{CHANNELS, Name, TOPICS};
use super::random::Random;

/// Members, by their place.
pub const MEMBERS: usize = 3;
/// nsqds.
pub const NSQDS: usize = 4;
/// Clients that do as they please.
pub const STRANGERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process is killed, and started again after this time.
    Crash(usize, u64),
    /// The other members do not reach it for this time; its nsqds do.
    Cut(usize, u64),
    /// The process is stopped for this time.
    Pause(usize, u64),
    /// It applies the log late for this time.
    Lag(usize, u64),
    /// It is removed; after this time a new member takes its place.
    Replace(usize, u64),
    /// All are restarted, one after the other, this far apart.
    Rolling(u64),
    /// Another leader is elected.
    Lead,
    /// The connection of an nsqd to its nth lookupd breaks; both ends notice.
    Break(usize, usize),
    /// Only the nsqd notices; the member does after this time, if at all.
    HalfOpen(usize, usize, Option<u64>),
    /// The nsqd's next command on the connection takes this long.
    Slow(usize, usize, u64),
    /// The connection breaks this long after the nsqd's next command on it.
    BreakNext(usize, usize, u64),
    Create(usize, Name),
    Drop(usize, Name),
    /// The nsqd ends, with or without a word, and starts again after this time.
    Stop(usize, bool, Option<u64>),
    Http(usize, Http, Name),
    /// A stranger connects to a member and identifies itself.
    Open(usize, usize),
    Say(usize, Word),
    /// It registers a name twice in one go, and perhaps gives it up or ends right behind that.
    Burst(usize, Name, bool, bool),
    /// The stranger's connection ends; the member notices after this time.
    End(usize, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http {
    Create,
    Delete,
    /// Delete it at the nsqds as well, as nsqadmin does.
    DeleteEverywhere,
    Tombstone(usize),
}

/// What a stranger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Register(Name),
    Unregister(Name),
    Ping,
    /// From now on it sends a PING every ten seconds.
    KeepPinging,
    /// From now on it does not.
    FallSilent,
}

/// An action and its time.
pub type Timed = (u64, Action);

/// What kind of world a seed makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    pub seed: u64,
    /// Two nsqds announce one address, and strangers announce the addresses of nsqds.
    pub twins: bool,
    /// Messages between members are lost, repeated and late.
    pub losses: bool,
    /// Commands of nsqds are slow now and then.
    pub slow_links: bool,
}

impl Weather {
    pub fn of(seed: u64) -> Self {
        Weather {
            seed,
            twins: seed % 4 == 3,
            losses: true,
            slow_links: true,
        }
    }
}

/// Until when things happen.
pub const HEALED: u64 = 100_000;

/// The actions of a seed.
pub fn draw(seed: u64) -> Vec<Timed> {
    let mut random = Random::new(seed, 1);
    let mut actions = Vec::new();
    let mut at = 4_000;
    // Some worlds are calm, some are not.
    let pause = random.pick(&[1_000, 2_500, 5_000]);
    while at < HEALED {
        actions.push((at, draw_one(&mut random)));
        at += match random.percent(25) {
            true => random.between(0, 30),
            false => random.between(1, 2 * pause),
        };
    }
    actions
}

fn draw_one(random: &mut Random) -> Action {
    let member = random.index(MEMBERS);
    let nsqd = random.index(NSQDS);
    let stranger = random.index(STRANGERS);
    let peer = random.index(MEMBERS);
    match random.below(100) {
        0..9 => Action::Crash(
            member,
            random.pick(&[50, 500, 1_500, 5_000, 20_000, 60_000]),
        ),
        9..13 => Action::Cut(member, random.pick(&[1_000, 5_000, 20_000, 60_000])),
        13..16 => Action::Pause(member, random.pick(&[300, 2_000, 5_000, 20_000])),
        16..18 => Action::Lag(member, random.pick(&[3_000, 15_000])),
        18 => Action::Replace(member, random.pick(&[1_000, 10_000])),
        19 => Action::Rolling(random.pick(&[3_000, 8_000])),
        20..22 => Action::Lead,
        22..26 => Action::Break(nsqd, peer),
        26..29 => Action::BreakNext(nsqd, peer, random.between(0, 15)),
        29..33 => {
            let noticed = random.pick(&[Some(1_000), Some(20_000), None]);
            Action::HalfOpen(nsqd, peer, noticed)
        }
        33..36 => Action::Slow(nsqd, peer, random.pick(&[900, 1_500, 8_000, 20_000])),
        36..50 => Action::Create(nsqd, name(random)),
        50..60 => Action::Drop(nsqd, name(random)),
        60..67 => {
            let again = random.pick(&[None, Some(100), Some(5_000), Some(60_000)]);
            Action::Stop(nsqd, random.percent(70), again)
        }
        67..77 => {
            let http = match random.below(7) {
                0 => Http::Create,
                1..4 => Http::Delete,
                4..6 => Http::DeleteEverywhere,
                _ => Http::Tombstone(nsqd),
            };
            Action::Http(member, http, name(random))
        }
        77..82 => Action::Open(stranger, member),
        82..85 => {
            let (gives_up, ends) = (random.percent(30), random.percent(40));
            Action::Burst(stranger, name(random), gives_up, ends)
        }
        85..97 => {
            let word = match random.below(15) {
                0..6 => Word::Register(name(random)),
                6..10 => Word::Unregister(name(random)),
                10..12 => Word::Ping,
                12..14 => Word::KeepPinging,
                _ => Word::FallSilent,
            };
            Action::Say(stranger, word)
        }
        _ => Action::End(stranger, random.pick(&[0, 0, 20_000])),
    }
}

fn name(random: &mut Random) -> Name {
    let topic = random.index(TOPICS.len());
    let channel = random.percent(50).then(|| random.index(CHANNELS.len()));
    Name::new(topic, channel)
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}s", millis / 1000, millis % 1000)
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = |member: usize| member + 1;
        match *self {
            Action::Crash(member, time) => {
                write!(
                    out,
                    "m{} crashes, starts after {}",
                    m(member),
                    seconds(time)
                )
            }
            Action::Cut(member, time) => {
                write!(out, "m{} is cut off for {}", m(member), seconds(time))
            }
            Action::Pause(member, time) => {
                write!(out, "m{} is stopped for {}", m(member), seconds(time))
            }
            Action::Lag(member, time) => {
                write!(out, "m{} applies late for {}", m(member), seconds(time))
            }
            Action::Replace(member, time) => write!(
                out,
                "m{} is removed, replaced after {}",
                m(member),
                seconds(time)
            ),
            Action::Rolling(time) => write!(out, "all restart, {} apart", seconds(time)),
            Action::Lead => write!(out, "another leader"),
            Action::Break(nsqd, peer) => write!(out, "n{nsqd}: connection {peer} breaks"),
            Action::HalfOpen(nsqd, peer, Some(time)) => write!(
                out,
                "n{nsqd}: connection {peer} breaks, the member notices after {}",
                seconds(time)
            ),
            Action::HalfOpen(nsqd, peer, None) => write!(
                out,
                "n{nsqd}: connection {peer} breaks, the member does not notice"
            ),
            Action::Slow(nsqd, peer, time) => write!(
                out,
                "n{nsqd}: the next command on connection {peer} takes {}",
                seconds(time)
            ),
            Action::Create(nsqd, name) => write!(out, "n{nsqd} creates {name}"),
            Action::Drop(nsqd, name) => write!(out, "n{nsqd} drops {name}"),
            Action::Stop(nsqd, clean, again) => {
                let how = if clean { "stops" } else { "is lost" };
                write!(out, "n{nsqd} {how}")?;
                match again {
                    Some(time) => write!(out, ", starts after {}", seconds(time)),
                    None => Ok(()),
                }
            }
            Action::Http(member, http, name) => match http {
                Http::Create => write!(out, "HTTP at m{}: create {name}", m(member)),
                Http::Delete => write!(out, "HTTP at m{}: delete {name}", m(member)),
                Http::DeleteEverywhere => {
                    write!(out, "HTTP at m{} and at nsqds: delete {name}", m(member))
                }
                Http::Tombstone(nsqd) => {
                    write!(out, "HTTP at m{}: tombstone {name} n{nsqd}", m(member))
                }
            },
            Action::Open(stranger, member) => write!(out, "r{stranger} connects to m{}", m(member)),
            Action::Say(stranger, word) => match word {
                Word::Register(name) => write!(out, "r{stranger}: REGISTER {name}"),
                Word::Unregister(name) => write!(out, "r{stranger}: UNREGISTER {name}"),
                Word::Ping => write!(out, "r{stranger}: PING"),
                Word::KeepPinging => write!(out, "r{stranger} keeps pinging"),
                Word::FallSilent => write!(out, "r{stranger} falls silent"),
            },
            Action::BreakNext(nsqd, peer, time) => write!(
                out,
                "n{nsqd}: connection {peer} breaks {time} ms after its next command"
            ),
            Action::Burst(stranger, name, gives_up, ends) => {
                write!(out, "r{stranger}: REGISTER {name}, REGISTER {name}")?;
                if gives_up {
                    write!(out, ", UNREGISTER {name}")?;
                }
                if ends {
                    write!(out, ", leaves")?;
                }
                Ok(())
            }
            Action::End(stranger, time) => {
                write!(out, "r{stranger} leaves, noticed after {}", seconds(time))
            }
        }
    }
}
