//! nsqds, operators and consumers that note everything they do and see.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::history::{At, History, Read, Write};
use super::http::{self, Answer};
use super::nsqd::Nsqd;

/// Topics of each nsqd.
pub const TOPICS: usize = 8;

/// So many of them are its own; the others all nsqds have.
const OWN: usize = 5;

/// Topics of each operator.
const CREATED: usize = 4;

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

/// What is wrong at the moment.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    number: u64,
    latest: &'static str,
    over: bool,
}

impl Trouble {
    /// The fault to blame for a gap that began with this and ended with that.
    fn between(self, end: Trouble) -> &'static str {
        if self.over && end.over && self.number == end.number {
            return "none";
        }
        if self.over { end.latest } else { self.latest }
    }
}

/// What the threads of a run share.
pub struct Run {
    began: Instant,
    stop: AtomicBool,
    nsqds: usize,
    history: Mutex<History>,
    trouble: Mutex<Trouble>,
    gaps: Mutex<BTreeMap<&'static str, Gaps>>,
    /// Counts when something begins to happen to a member itself, and when that is over: while it
    /// is odd, a gap there says nothing.
    disturbed: Vec<AtomicU64>,
    /// Counts the ends of a member's process that its data survives.
    ended: Vec<AtomicU64>,
    /// The nsqds of a member wait while this is set.
    held: Vec<AtomicBool>,
    pub writes: AtomicUsize,
    /// Writes that may or may not have taken effect.
    pub unknown: AtomicUsize,
    /// Writes that were refused.
    pub refused: AtomicUsize,
    pub reads: AtomicUsize,
    /// Reads that were marked stale.
    pub stale: AtomicUsize,
    /// Reads that were not answered, by a member that was down or said that it cannot.
    pub unanswered: AtomicUsize,
    /// Those of them at members that nothing happened to.
    pub unexcused: AtomicUsize,
}

/// Where a member listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub member: usize,
    pub tcp: u16,
    pub http: u16,
}

impl Run {
    /// A run with these members and nsqds; nsqd n is connected to member n modulo their number.
    pub fn new(members: usize, nsqds: usize) -> Run {
        Run {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            nsqds,
            history: Mutex::default(),
            trouble: Mutex::new(Trouble {
                number: 0,
                latest: "none",
                over: true,
            }),
            gaps: Mutex::default(),
            disturbed: (0..members).map(|_| AtomicU64::new(0)).collect(),
            ended: (0..members).map(|_| AtomicU64::new(0)).collect(),
            held: (0..members).map(|_| AtomicBool::new(false)).collect(),
            writes: AtomicUsize::new(0),
            unknown: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            stale: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            unexcused: AtomicUsize::new(0),
        }
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The `broadcast_address` of the nsqds that are connected to a member.
    pub fn hosts_at(&self, member: usize) -> Vec<String> {
        let numbers = (0..self.nsqds).filter(|number| number % self.disturbed.len() == member);
        numbers.map(host).collect()
    }

    pub fn begin_fault(&self, fault: &'static str) {
        let mut trouble = lock(&self.trouble);
        *trouble = Trouble {
            number: trouble.number + 1,
            latest: fault,
            over: false,
        };
    }

    /// The fault is healed, and all members answer again.
    pub fn end_fault(&self) {
        lock(&self.trouble).over = true;
    }

    /// Something begins to happen to the member itself, or is over.
    pub fn disturb(&self, member: usize) {
        self.disturbed[member].fetch_add(1, Ordering::Relaxed);
    }

    /// The member's process is about to end. What its nsqds have registered stays.
    pub fn ends(&self, member: usize) {
        self.ended[member].fetch_add(1, Ordering::SeqCst);
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

    fn note_write(&self, item: &str, write: Write) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if write.acknowledged.is_none() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        let mut history = lock(&self.history);
        history.0.entry(item.into()).or_default().writes.push(write);
    }

    fn note_read(&self, item: &str, read: Read) {
        let mut history = lock(&self.history);
        history.0.entry(item.into()).or_default().reads.push(read);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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

fn item(topic: &str, host: &str) -> String {
    format!("{topic} of {host}")
}

/// Measures the time between two successes at one member, unless it was disturbed in between.
struct Stopwatch<'a> {
    run: &'a Run,
    member: usize,
    last: Instant,
    disturbed: u64,
    trouble: Trouble,
}

impl<'a> Stopwatch<'a> {
    fn new(run: &'a Run, member: usize) -> Self {
        Stopwatch {
            run,
            member,
            last: Instant::now(),
            disturbed: u64::MAX, // the first success has no gap before it
            trouble: *lock(&run.trouble),
        }
    }

    fn success(&mut self, gap_of: impl FnOnce(&mut Gaps) -> &mut Duration) {
        let gap = self.last.elapsed();
        let disturbed = self.run.disturbed[self.member].load(Ordering::Relaxed);
        let trouble = *lock(&self.run.trouble);
        if disturbed == self.disturbed && disturbed.is_multiple_of(2) {
            let mut gaps = lock(&self.run.gaps);
            let blamed = self.trouble.between(trouble);
            let longest = gap_of(gaps.entry(blamed).or_default());
            *longest = gap.max(*longest);
        }
        self.disturbed = disturbed;
        self.last = Instant::now();
        self.trouble = trouble;
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
    /// What [`Run::ends`] counted when the session began.
    ended: u64,
}

impl<'a> Writer<'a> {
    pub fn new(run: &'a Run, at: Ports, number: usize, seed: u64) -> Self {
        Writer {
            run,
            at,
            host: host(number),
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
            if self.run.held[self.at.member].load(Ordering::Relaxed) {
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
            _session: self.session,
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
        self.ended = self.run.ended[self.at.member].load(Ordering::SeqCst);
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
        let ended = self.run.ended[self.at.member].load(Ordering::SeqCst);
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

/// What an nsqd has at the end of a run; its session is open for as long as this exists.
pub struct Ended {
    pub host: String,
    /// Every topic, and whether it has it.
    pub has: BTreeMap<String, bool>,
    _session: Option<Nsqd>,
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

/// A consumer that looks up all topics at one member.
pub fn look_up(run: &Run, at: Ports, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ ((at.member as u64) << 48));
    let mut watch = Stopwatch::new(run, at.member);
    let mut client = http::Client::new(at.http);
    while !run.is_over() {
        std::thread::sleep(PAUSE);
        let host = host(random.random_range(0..run.nsqds));
        let created = random.random_ratio(1, 8);
        let topic = if created {
            let operator = random.random_range(0..run.disturbed.len());
            created_by(operator, random.random_range(0..CREATED))
        } else {
            topic_of(&host, random.random_range(0..TOPICS))
        };
        let began = run.now();
        let disturbed = run.disturbed[at.member].load(Ordering::Relaxed);
        let answer = client.get(&format!("/lookup?topic={topic}"));
        let Some(answer) = answer.filter(|answer| [200, 404].contains(&answer.status)) else {
            run.unanswered.fetch_add(1, Ordering::Relaxed);
            let now = run.disturbed[at.member].load(Ordering::Relaxed);
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
