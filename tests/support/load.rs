//! nsqds, operators and consumers that note everything they do and see.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::history::{Read, Write};
use super::http::{self, Answer};
use super::nsqd::Nsqd;
use super::run::{Ports, Run, Stopwatch};

/// Topics of each nsqd.
pub const TOPICS: usize = 8;

/// So many of them are its own; the others all nsqds have.
const OWN: usize = 5;

/// Topics of each operator.
const CREATED: usize = 4;

/// nsqd gives a lookupd one second for each command.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// A breath between two operations, so that a run is not only the same second over and over.
pub const PAUSE: Duration = Duration::from_millis(2);

fn host(nsqd: usize) -> String {
    format!("h{nsqd}")
}

fn topic_of(host: &str, number: usize) -> String {
    match number {
        ..OWN => format!("{host}-t{number}"),
        _ => format!("shared-t{number}"),
    }
}

fn created_by(operator: usize, number: usize) -> String {
    format!("created-{operator}-{number}")
}

pub fn item(topic: &str, host: &str) -> String {
    format!("{topic} of {host}")
}

/// One nsqd at one member: registers and unregisters its topics, connects again when it must.
pub struct Writer<'a> {
    run: &'a Run,
    at: Ports,
    host: String,
    random: StdRng,
    /// What it has: all of it is registered again with a new session.
    has: [bool; TOPICS],
    session: Option<Nsqd>,
    /// What [`Run::ends`] counted when the session began.
    ended: u64,
}

impl<'a> Writer<'a> {
    pub fn new(run: &'a Run, at: Ports, number: usize, seed: u64) -> Self {
        let host = host(number);
        run.settle(at.member, &host);
        Writer {
            run,
            at,
            host,
            random: StdRng::seed_from_u64(seed ^ ((number as u64) << 32)),
            has: [false; TOPICS],
            session: None,
            ended: 0,
        }
    }

    /// Works until the run is over.
    pub fn work(mut self) -> Ended {
        let mut watch = Stopwatch::new(self.run, self.at.member);
        while !self.run.is_over() {
            std::thread::sleep(PAUSE);
            if self.run.is_held(self.at.member) {
                self.leave();
                continue;
            }
            if self.session.is_none() {
                self.connect();
                continue;
            }
            let topic = self.random.random_range(0..TOPICS);
            match self.random.random_range(0..100) {
                0..2 => self.leave(),
                2..6 => self.ping(),
                _ => {
                    self.has[topic] = !self.has[topic];
                    if self.tell(topic) {
                        watch.success(|gaps| &mut gaps.write);
                    }
                }
            }
        }
        // What it has in the end is acknowledged, unless the cluster does not come back.
        let started = Instant::now();
        while started.elapsed() < super::DEADLINE
            && (self.session.is_none() || !(0..TOPICS).all(|topic| self.tell(topic)))
        {
            std::thread::sleep(PAUSE);
            self.connect();
        }
        let has = (0..TOPICS).map(|topic| (topic_of(&self.host, topic), self.has[topic]));
        Ended {
            has: has.collect(),
            host: self.host,
            _sessions: self.session.into_iter().collect(),
        }
    }

    fn connect(&mut self) {
        if self.session.is_some() {
            return;
        }
        let Ok(mut nsqd) = Nsqd::connect(self.at.tcp) else {
            return;
        };
        nsqd.set_patience(PATIENCE).unwrap();
        match nsqd.identify(&self.host) {
            Ok(answer) if answer.starts_with('{') => self.session = Some(nsqd),
            // The member may take it for a session that ended.
            _ => return self.gone(),
        }
        self.ended = self.run.ends_of(self.at.member);
        for topic in 0..TOPICS {
            if self.has[topic] && self.session.is_some() {
                self.tell(topic);
            }
        }
        if self.session.is_some() {
            self.ping();
        }
    }

    fn ping(&mut self) {
        let Some(nsqd) = &mut self.session else {
            return;
        };
        if let Err(error) = nsqd.command("PING") {
            self.lose(&error);
        }
    }

    /// REGISTER or UNREGISTER, whichever is true; whether it was acknowledged.
    fn tell(&mut self, topic: usize) -> bool {
        let name = topic_of(&self.host, topic);
        let (listed, began) = (self.has[topic], self.run.now());
        let verb = if listed { "REGISTER" } else { "UNREGISTER" };
        let Some(nsqd) = &mut self.session else {
            return false;
        };
        let answer = nsqd.command(&format!("{verb} {name}"));
        let done = matches!(&answer, Ok(answer) if answer == "OK");
        let write = Write {
            listed,
            began,
            acknowledged: done.then(|| self.run.now()),
        };
        self.run.note_write(&item(&name, &self.host), write);
        if let Err(error) = answer {
            self.lose(&error);
        }
        done
    }

    fn leave(&mut self) {
        if let Some(nsqd) = self.session.take() {
            self.gone();
            nsqd.leave();
        }
    }

    /// The connection broke, or took too long to answer. If that was the end of the member's
    /// process, what was registered stays; else the session may have ended for the member, too.
    fn lose(&mut self, error: &io::Error) {
        let gave_up = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
        let ended = self.run.ends_of(self.at.member);
        if gave_up || ended == self.ended {
            // Noted first: it ends with our end of the connection at the latest.
            self.gone();
        }
        self.session = None;
    }

    fn gone(&self) {
        for topic in (0..TOPICS).filter(|topic| self.has[*topic]) {
            let write = Write {
                listed: false,
                began: self.run.now(),
                acknowledged: None,
            };
            let name = topic_of(&self.host, topic);
            self.run.note_write(&item(&name, &self.host), write);
        }
    }
}

/// What an nsqd has at the end of a run; its sessions are open for as long as this exists.
pub struct Ended {
    pub host: String,
    /// Every topic, and whether it has it.
    pub has: BTreeMap<String, bool>,
    pub _sessions: Vec<Nsqd>,
}

/// An operator who creates and deletes topics at one member.
pub fn operate(run: &Run, at: Ports, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ ((at.member as u64) << 40));
    let mut exists = [false; CREATED];
    while !run.is_over() {
        std::thread::sleep(5 * PAUSE);
        let number = random.random_range(0..CREATED);
        let topic = created_by(at.member, number);
        let listed = !exists[number];
        let verb = if listed { "create" } else { "delete" };
        let began = run.now();
        let answer = http::request(at.http, "POST", &format!("/topic/{verb}?topic={topic}"));
        let acknowledged = match answer.map(|answer| answer.status) {
            Some(200) => Some(run.now()),
            Some(503) => {
                run.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            _ => None,
        };
        exists[number] = listed;
        run.note_write(
            &topic,
            Write {
                listed,
                began,
                acknowledged,
            },
        );
    }
}

/// Of the consumers' lookups, one in this many is for a topic of [`WATCHED`].
const WATCHES: u32 = 6;

/// The topics whose nsqds come and go during a run.
pub const WATCHED: [&str; 6] = [
    "paths-0", "paths-1", "paths-2", "lives-0", "lives-1", "lives-2",
];

/// A consumer that looks up all topics at one member.
pub fn look_up(run: &Run, at: Ports, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ ((at.member as u64) << 48));
    let mut watch = Stopwatch::new(run, at.member);
    let mut client = http::Client::new(at.http);
    while !run.is_over() {
        std::thread::sleep(PAUSE);
        let host = host(random.random_range(0..run.nsqds));
        let created = random.random_ratio(1, 8);
        let watches = !created && random.random_ratio(1, WATCHES);
        let topic = if watches {
            (*WATCHED.choose(&mut random).unwrap()).to_string()
        } else if created {
            let operator = random.random_range(0..run.members());
            created_by(operator, random.random_range(0..CREATED))
        } else {
            topic_of(&host, random.random_range(0..TOPICS))
        };
        let began = run.now();
        let disturbed = run.disturbances()[at.member];
        let answer = client.get(&format!("/lookup?topic={topic}"));
        let Some(answer) = answer.filter(|answer| [200, 404].contains(&answer.status)) else {
            run.unanswered.fetch_add(1, Ordering::Relaxed);
            let now = run.disturbances()[at.member];
            if now == disturbed && now.is_multiple_of(2) {
                run.unexcused.fetch_add(1, Ordering::Relaxed);
            }
            continue;
        };
        watch.success(|gaps| &mut gaps.lookup);
        run.reads.fetch_add(1, Ordering::Relaxed);
        if answer.is_stale() {
            run.stale.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let read = Read {
            listed: answer.status == 200,
            began,
            ended: run.now(),
            member: at.member,
        };
        if created {
            run.note_read(&topic, read);
        } else if watches {
            for host in run.watched(&topic) {
                let listed = lists(&answer, &host);
                run.note_read(&item(&topic, &host), Read { listed, ..read });
            }
        } else if topic.starts_with("shared") {
            for number in 0..run.nsqds {
                let host = self::host(number);
                let listed = lists(&answer, &host);
                run.note_read(&item(&topic, &host), Read { listed, ..read });
            }
        } else {
            let listed = lists(&answer, &host);
            run.note_read(&item(&topic, &host), Read { listed, ..read });
        }
    }
}

/// Whether the answer to a lookup lists this nsqd.
pub fn lists(answer: &Answer, host: &str) -> bool {
    answer
        .body
        .contains(&format!(r#""broadcast_address":"{host}""#))
}
