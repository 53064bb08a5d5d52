//! nsqds and consumers that note everything they do and see.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::history::{At, History, Read, Write};
use super::http;
use super::nsqd::Nsqd;

/// Topics of each nsqd.
pub const TOPICS: usize = 8;

/// nsqd gives a lookupd one second for each command.
const PATIENCE: Duration = Duration::from_secs(1);

/// A breath between two operations, so that a run is not only the same second over and over.
const PAUSE: Duration = Duration::from_millis(2);

/// The longest time without a success, by the fault that was on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gaps {
    pub write: Duration,
    pub lookup: Duration,
}

/// What the threads of a run share.
pub struct Run {
    began: Instant,
    stop: AtomicBool,
    history: Mutex<History>,
    fault: Mutex<&'static str>,
    gaps: Mutex<BTreeMap<&'static str, Gaps>>,
    /// Grows whenever a member is killed or paused: a gap there says nothing of the others.
    disturbed: Vec<AtomicU64>,
    /// The nsqds of a member wait while this is set.
    held: Vec<AtomicBool>,
    pub writes: AtomicUsize,
    pub unknown: AtomicUsize,
    pub reads: AtomicUsize,
    pub stale: AtomicUsize,
    pub refused: AtomicUsize,
}

/// Where a member listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub member: usize,
    pub tcp: u16,
    pub http: u16,
}

impl Run {
    pub fn new(members: usize) -> Run {
        Run {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            history: Mutex::default(),
            fault: Mutex::new("none"),
            gaps: Mutex::default(),
            disturbed: (0..members).map(|_| AtomicU64::new(0)).collect(),
            held: (0..members).map(|_| AtomicBool::new(false)).collect(),
            writes: AtomicUsize::new(0),
            unknown: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            stale: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn begin_fault(&self, fault: &'static str) {
        *lock(&self.fault) = fault;
    }

    /// A member is killed, paused or back.
    pub fn disturb(&self, member: usize) {
        self.disturbed[member].fetch_add(1, Ordering::Relaxed);
    }

    /// Has the nsqds of a member wait, or go on.
    pub fn hold(&self, member: usize, held: bool) {
        self.held[member].store(held, Ordering::Relaxed);
    }

    pub fn violations(&self) -> Vec<String> {
        lock(&self.history).violations()
    }

    pub fn gaps(&self) -> BTreeMap<&'static str, Gaps> {
        lock(&self.gaps).clone()
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn now(&self) -> At {
        self.began.elapsed()
    }

    fn note_write(&self, topic: &str, write: Write) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if write.acknowledged.is_none() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        lock(&self.history)
            .0
            .entry(topic.into())
            .or_default()
            .writes
            .push(write);
    }

    fn note_read(&self, topic: &str, read: Read) {
        lock(&self.history)
            .0
            .entry(topic.into())
            .or_default()
            .reads
            .push(read);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures the time between two successes at one member, unless it was disturbed in between.
struct Stopwatch<'a> {
    run: &'a Run,
    member: usize,
    last: Instant,
    disturbed: u64,
    fault: &'static str,
}

impl<'a> Stopwatch<'a> {
    fn new(run: &'a Run, member: usize) -> Self {
        Stopwatch {
            run,
            member,
            last: Instant::now(),
            disturbed: 0,
            fault: "none",
        }
    }

    fn success(&mut self, gap_of: impl FnOnce(&mut Gaps) -> &mut Duration) {
        let gap = self.last.elapsed();
        let disturbed = self.run.disturbed[self.member].load(Ordering::Relaxed);
        if disturbed == self.disturbed {
            let mut gaps = lock(&self.run.gaps);
            let longest = gap_of(gaps.entry(self.fault).or_default());
            *longest = gap.max(*longest);
        }
        self.disturbed = disturbed;
        self.last = Instant::now();
        self.fault = *lock(&self.run.fault);
    }
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
}

impl<'a> Writer<'a> {
    pub fn new(run: &'a Run, at: Ports, number: usize, seed: u64) -> Self {
        Writer {
            run,
            at,
            host: format!("h{number}"),
            random: StdRng::seed_from_u64(seed ^ (number as u64) << 32),
            has: [false; TOPICS],
            session: None,
        }
    }

    /// Works until the run is over; what it has then, with its session still open.
    pub fn work(mut self) -> (BTreeMap<String, bool>, Option<Nsqd>) {
        let mut watch = Stopwatch::new(self.run, self.at.member);
        while !self.run.is_over() {
            std::thread::sleep(PAUSE);
            if self.run.held[self.at.member].load(Ordering::Relaxed) {
                if self.session.is_some() {
                    self.lose();
                }
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
        let has = (0..TOPICS).map(|topic| (self.topic(topic), self.has[topic]));
        (has.collect(), self.session)
    }

    fn topic(&self, topic: usize) -> String {
        format!("{}-t{topic}", self.host)
    }

    fn connect(&mut self) {
        if self.session.is_some() {
            return;
        }
        let session = Nsqd::connect(self.at.tcp).and_then(|mut nsqd| {
            nsqd.set_patience(PATIENCE)?;
            let answer = nsqd.identify(&self.host)?;
            Ok(answer.starts_with('{').then_some(nsqd))
        });
        self.session = session.ok().flatten();
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
        let answer = self.session.as_mut().map(|nsqd| nsqd.command("PING"));
        if !matches!(answer, Some(Ok(answer)) if answer == "OK") {
            self.lose();
        }
    }

    /// REGISTER or UNREGISTER, whichever is true; whether it was acknowledged.
    fn tell(&mut self, topic: usize) -> bool {
        let (name, listed, began) = (self.topic(topic), self.has[topic], self.run.now());
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
        self.run.note_write(&name, write);
        if answer.is_err() {
            self.lose();
        }
        done
    }

    fn leave(&mut self) {
        if let Some(nsqd) = self.session.take() {
            self.gone();
            nsqd.leave();
        }
    }

    /// The connection broke: the member may or may not have noticed.
    fn lose(&mut self) {
        self.session = None;
        self.gone();
    }

    fn gone(&self) {
        for topic in (0..TOPICS).filter(|topic| self.has[*topic]) {
            let write = Write {
                listed: false,
                began: self.run.now(),
                acknowledged: None,
            };
            self.run.note_write(&self.topic(topic), write);
        }
    }
}

/// A consumer that looks up the topics of all nsqds at one member.
pub fn look_up(run: &Run, at: Ports, nsqds: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ (at.member as u64) << 48);
    let mut watch = Stopwatch::new(run, at.member);
    while !run.is_over() {
        std::thread::sleep(PAUSE);
        let host = format!("h{}", random.random_range(0..nsqds));
        let topic = format!("{host}-t{}", random.random_range(0..TOPICS));
        let began = run.now();
        let answer = http::request(at.http, "GET", &format!("/lookup?topic={topic}"));
        let Some(answer) = answer.filter(|answer| [200, 404].contains(&answer.status)) else {
            run.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        watch.success(|gaps| &mut gaps.lookup);
        run.reads.fetch_add(1, Ordering::Relaxed);
        if answer.is_stale() {
            run.stale.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let read = Read {
            listed: answer
                .body
                .contains(&format!(r#""broadcast_address":"{host}""#)),
            began,
            ended: run.now(),
            member: at.member,
        };
        run.note_read(&topic, read);
    }
}
