//! Prints progress every few seconds.

use std::io::Write;
use std::time::{Duration, Instant};

/// The time between two lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// The progress of one task.
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

    /// Counts a finished step.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.said.elapsed() >= INTERVAL {
            self.said = Instant::now();
            note(&format!("{}: {} of {}", self.what, self.done, self.total));
        }
    }
}

/// Prints a line to standard error. If it cannot be written, that is not a failure.
pub(super) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
