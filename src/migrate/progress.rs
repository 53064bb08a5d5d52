//! A line every few seconds, for whoever waits.

use std::io::Write;
use std::time::{Duration, Instant};

/// Between two lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// How far something has come.
pub(super) struct Progress {
    what: String,
    total: usize,
    done: usize,
    said: Instant,
}

impl Progress {
    pub(super) fn new(what: String, total: usize) -> Progress {
        Progress {
            what,
            total,
            done: 0,
            said: Instant::now(),
        }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.said.elapsed() >= INTERVAL {
            self.said = Instant::now();
            note(&format!("{}: {} of {}", self.what, self.done, self.total));
        }
    }
}

/// A line beside the result. Whoever should read it may be gone; that is no reason to fail.
pub(super) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
