//! What the threads of a run of faults share: what happens to members, and what clients saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::history::{At, History, Read, Write};

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
    pub nsqds: usize,
    history: Mutex<History>,
    trouble: Mutex<Trouble>,
    gaps: Mutex<BTreeMap<&'static str, Gaps>>,
    /// Counts when something begins to happen to a member itself, and when that is over: while it
    /// is odd, a gap there says nothing.
    disturbed: Vec<AtomicU64>,
    /// The `broadcast_address` of each nsqd that is connected to this member only.
    residents: Vec<Mutex<BTreeSet<String>>>,
    /// The nsqds to look for in lookups of a topic, and until when.
    watched: Mutex<BTreeMap<String, BTreeMap<String, Option<At>>>>,
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
            residents: (0..members).map(|_| Mutex::default()).collect(),
            watched: Mutex::default(),
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

    /// The nsqd is connected to this member only.
    pub fn settle(&self, member: usize, host: &str) {
        lock(&self.residents[member]).insert(host.into());
    }

    /// The `broadcast_address` of the nsqds that are connected to this member only.
    pub fn hosts_at(&self, member: usize) -> Vec<String> {
        lock(&self.residents[member]).iter().cloned().collect()
    }

    /// Has lookups of the topic note whether they list the nsqd; until then, if given.
    pub fn watch(&self, topic: &str, host: &str, until: Option<At>) {
        let mut watched = lock(&self.watched);
        let hosts = watched.entry(topic.into()).or_default();
        hosts.insert(host.into(), until);
    }

    /// The nsqds to look for in this topic now.
    pub fn watched(&self, topic: &str) -> Vec<String> {
        let now = self.now();
        let mut watched = lock(&self.watched);
        let hosts = watched.entry(topic.into()).or_default();
        hosts.retain(|_, until| until.is_none_or(|until| now < until));
        hosts.keys().cloned().collect()
    }

    /// What counts the ends of the member's process.
    pub fn ends_of(&self, member: usize) -> u64 {
        self.ended[member].load(Ordering::SeqCst)
    }

    /// Changes whenever something begins to happen to a member, or is over; odd for a member while
    /// it lasts.
    pub fn disturbances(&self) -> Vec<u64> {
        let disturbed = self.disturbed.iter();
        disturbed
            .map(|count| count.load(Ordering::Relaxed))
            .collect()
    }

    pub fn is_held(&self, member: usize) -> bool {
        self.held[member].load(Ordering::Relaxed)
    }

    pub fn members(&self) -> usize {
        self.disturbed.len()
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

    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> At {
        self.began.elapsed()
    }

    pub fn note_write(&self, item: &str, write: Write) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if write.acknowledged.is_none() {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        let mut history = lock(&self.history);
        history.0.entry(item.into()).or_default().writes.push(write);
    }

    pub fn note_read(&self, item: &str, read: Read) {
        let mut history = lock(&self.history);
        history.0.entry(item.into()).or_default().reads.push(read);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measures the time between two successes at one member, unless it was disturbed in between.
pub struct Stopwatch<'a> {
    run: &'a Run,
    member: usize,
    last: Instant,
    disturbed: u64,
    trouble: Trouble,
}

impl<'a> Stopwatch<'a> {
    pub fn new(run: &'a Run, member: usize) -> Self {
        Stopwatch {
            run,
            member,
            last: Instant::now(),
            disturbed: u64::MAX, // the first success has no gap before it
            trouble: *lock(&run.trouble),
        }
    }

    pub fn success(&mut self, gap_of: impl FnOnce(&mut Gaps) -> &mut Duration) {
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
