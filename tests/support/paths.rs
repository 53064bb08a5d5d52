//! nsqds with several connections: two paths to one member, and one to each.

use std::io::{self, ErrorKind, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::DEADLINE;
use super::history::Write;
use super::listing::Listing;
use super::load::{Ended, PATIENCE, PAUSE, item};
use super::nsqd::{Nsqd, identify_bytes};
use super::run::{Ports, Run};

/// One way to a member, and what the nsqd says there.
struct Path {
    at: Ports,
    session: Option<Nsqd>,
    /// What [`Run::ends_of`] counted when the session began.
    ends: u64,
    has: Vec<bool>,
}

/// One nsqd, as its `broadcast_address` and port are the same on all paths.
pub struct ManyPaths<'a> {
    run: &'a Run,
    pub host: String,
    topics: Vec<String>,
    listings: Vec<Listing>,
    /// Topics whose listing follows from nothing that is said from now on.
    settled: Vec<bool>,
    paths: Vec<Path>,
}

impl<'a> ManyPaths<'a> {
    pub fn new(run: &'a Run, host: String, at: &[Ports], topics: &[&str]) -> Self {
        for topic in topics {
            run.watch(topic, &host, None);
        }
        let path = |at: &Ports| Path {
            at: *at,
            session: None,
            ends: 0,
            has: vec![false; topics.len()],
        };
        ManyPaths {
            run,
            host,
            topics: topics.iter().map(ToString::to_string).collect(),
            listings: vec![Listing::new(at.len()); topics.len()],
            settled: vec![false; topics.len()],
            paths: at.iter().map(path).collect(),
        }
    }

    pub fn is_open(&self, path: usize) -> bool {
        self.paths[path].session.is_some()
    }

    /// Whether the path's session is open and its member's process still the same.
    pub fn is_alive(&self, path: usize) -> bool {
        let path = &self.paths[path];
        path.session.is_some() && self.run.ends_of(path.at.member) == path.ends
    }

    /// Whether it is listed for certain.
    pub fn is_held(&self, topic: usize) -> bool {
        self.listings[topic].is_held()
    }

    /// Whether it is not known what some session holds of it.
    pub fn is_in_doubt(&self, topic: usize) -> bool {
        self.listings[topic].is_in_doubt()
    }

    /// Notes the last write of the topic's listing that has to do with single sessions.
    pub fn settle(&mut self, topic: usize, write: Write) {
        self.note(topic, vec![write]);
        self.settled[topic] = true;
    }

    fn note(&self, topic: usize, writes: Vec<Write>) {
        if self.settled[topic] {
            return;
        }
        let item = item(&self.topics[topic], &self.host);
        for write in writes {
            self.run.note_write(&item, write);
        }
    }

    /// Changes what the nsqd wants here, without saying so.
    pub fn want(&mut self, path: usize, topic: usize, wanted: bool) {
        self.paths[path].has[topic] = wanted;
    }

    /// Begins a session on this path, unless it has one, and registers what it has.
    pub fn connect(&mut self, path: usize) {
        if self.is_open(path) {
            return;
        }
        let at = self.paths[path].at;
        let Ok(mut nsqd) = Nsqd::connect(at.tcp) else {
            return;
        };
        nsqd.set_patience(PATIENCE).unwrap();
        let ends = self.run.ends_of(at.member);
        // Since its process ended, the member keeps what all paths had said only until the first
        // that is back has said all it has.
        for other in 0..self.paths.len() {
            let stale = self.paths[other].ends != ends || !self.is_open(other);
            if other != path && self.paths[other].at.member == at.member && stale {
                self.lose_claims(other);
            }
        }
        match nsqd.identify(&self.host) {
            Ok(answer) if answer.starts_with('{') => self.paths[path].session = Some(nsqd),
            _ => return self.lose_claims(path),
        }
        self.paths[path].ends = ends;
        for topic in 0..self.topics.len() {
            if self.paths[path].has[topic] && self.is_open(path) {
                self.tell(path, topic);
            }
        }
        for topic in 0..self.topics.len() {
            if !self.paths[path].has[topic] {
                let writes = self.listings[topic].lose(path, self.run.now());
                self.note(topic, writes);
            }
        }
        self.ping(path);
    }

    pub fn ping(&mut self, path: usize) {
        let session = self.paths[path].session.as_mut();
        if let Some(Err(error)) = session.map(|nsqd| nsqd.command("PING")) {
            self.lose(path, &error);
        }
    }

    /// Registers or unregisters, whichever is true; whether it was acknowledged.
    pub fn tell(&mut self, path: usize, topic: usize) -> bool {
        let listed = self.paths[path].has[topic];
        let began = self.run.now();
        let Some(answer) = self.say(path, topic, listed) else {
            return false;
        };
        let done = matches!(&answer, Ok(answer) if answer == "OK");
        let acknowledged = done.then(|| self.run.now());
        let listing = &mut self.listings[topic];
        let writes = match listed {
            true => listing.register(path, began, acknowledged),
            false => listing.unregister(path, began, acknowledged),
        };
        self.note(topic, writes);
        if let Err(error) = answer {
            self.lose(path, &error);
        }
        done
    }

    /// Gives the topic up on a path; whether that was acknowledged. What it means for the listing
    /// is left to the caller.
    pub fn give_up(&mut self, path: usize, topic: usize) -> bool {
        match self.say(path, topic, false) {
            Some(Ok(answer)) => answer == "OK",
            Some(Err(error)) => {
                self.lose(path, &error);
                false
            }
            None => false,
        }
    }

    fn say(&mut self, path: usize, topic: usize, listed: bool) -> Option<io::Result<String>> {
        let verb = if listed { "REGISTER" } else { "UNREGISTER" };
        let line = format!("{verb} {}", self.topics[topic]);
        Some(self.paths[path].session.as_mut()?.command(&line))
    }

    /// Ends the session, and waits until its member has ended it, too.
    pub fn leave(&mut self, path: usize) {
        if let Some(nsqd) = self.paths[path].session.take() {
            self.lose_claims(path);
            nsqd.leave_patiently();
        }
    }

    /// Begins a session if there is none, and says what the nsqd has and has not; whether all of it
    /// was acknowledged.
    pub fn say_all(&mut self, path: usize) -> bool {
        self.connect(path);
        (0..self.topics.len()).all(|topic| self.tell(path, topic))
    }

    /// What the nsqd has on any path, with its sessions.
    pub fn into_ended(self) -> Ended {
        let has = |topic: usize| self.paths.iter().any(|path| path.has[topic]);
        let topics = self.topics.iter().enumerate();
        let has = topics.map(|(number, topic)| (topic.clone(), has(number)));
        Ended {
            has: has.collect(),
            host: self.host,
            _sessions: self
                .paths
                .into_iter()
                .filter_map(|path| path.session)
                .collect(),
        }
    }

    /// The process of the nsqd ends: all connections at the same moment.
    pub fn end(&mut self) {
        for path in &mut self.paths {
            path.session = None;
        }
    }

    /// The connection broke, or took too long to answer. If that was the end of the member's
    /// process, what was registered stays.
    fn lose(&mut self, path: usize, error: &io::Error) {
        let gave_up = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
        match gave_up || self.is_alive(path) {
            true => self.leave(path),
            false => self.paths[path].session = None,
        }
    }

    fn lose_claims(&mut self, path: usize) {
        for topic in 0..self.topics.len() {
            let writes = self.listings[topic].lose(path, self.run.now());
            self.note(topic, writes);
        }
    }
}

/// An nsqd with two paths to one member, or two nsqds with one address: they register and give up
/// topics independently, come and go, and some abandoned connection's IDENTIFY arrives late.
pub fn two_paths(run: &Run, at: Ports, seed: u64) -> Ended {
    let mut random = StdRng::seed_from_u64(seed ^ ((at.member as u64) << 44));
    let host = format!("d{}", at.member);
    run.settle(at.member, &host);
    let topics = ["paths-0", "paths-1", "paths-2"];
    let mut nsqd = ManyPaths::new(run, host, &[at, at], &topics);
    let mut abandoned: Option<TcpStream> = None;
    while !run.is_over() {
        std::thread::sleep(PAUSE);
        if run.is_held(at.member) {
            (0..2).for_each(|path| nsqd.leave(path));
            continue;
        }
        let path = random.random_range(0..2);
        let topic = random.random_range(0..topics.len());
        match random.random_range(0..100) {
            _ if !nsqd.is_open(path) => nsqd.connect(path),
            0..2 => nsqd.leave(path),
            2..5 => nsqd.ping(path),
            5..7 => abandoned = TcpStream::connect(("127.0.0.1", at.tcp)).ok(),
            7..10 => {
                if let Some(stream) = abandoned.take() {
                    arrive_late(stream, &nsqd, path);
                }
            }
            _ => {
                let wanted = !nsqd.paths[path].has[topic];
                nsqd.want(path, topic, wanted);
                nsqd.tell(path, topic);
            }
        }
    }
    let started = Instant::now();
    while started.elapsed() < DEADLINE && !(0..2).all(|path| nsqd.say_all(path)) {
        std::thread::sleep(PAUSE);
    }
    nsqd.into_ended()
}

/// What was sent on a connection long given up arrives at once: IDENTIFY, a topic that the nsqd
/// still has, and the end.
fn arrive_late(mut stream: TcpStream, nsqd: &ManyPaths<'_>, path: usize) {
    let mut bytes = b"  V1".to_vec();
    bytes.extend(identify_bytes(&nsqd.host));
    let has = nsqd.paths[path].has.iter().position(|has| *has);
    if let Some(topic) = has.filter(|topic| nsqd.is_alive(path) && nsqd.is_held(*topic)) {
        bytes.extend(format!("REGISTER {}\n", nsqd.topics[topic]).bytes());
    }
    let sent = stream.write_all(&bytes);
    if sent.is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        Nsqd::over(stream).leave_patiently();
    }
}
