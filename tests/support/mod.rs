//! A cluster of real member processes, and simple clients of it.
//!
//! Everything waits for conditions, with one generous deadline; nothing sleeps for a time.

#![allow(dead_code, unreachable_pub)] // each test file is a crate of its own and uses its part

pub mod cluster;
pub mod consumer;
pub mod faults;
pub mod history;
pub mod http;
pub mod listing;
pub mod lives;
pub mod load;
pub mod member;
pub mod nsqd;
pub mod paths;
pub mod proxy;
pub mod real;
pub mod run;
pub mod scripted;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nothing that is waited for takes nearly as long, unless it never happens.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Repeats the question until the answer is `Some`; panics after the deadline.
pub fn wait_for<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Repeats the question until the answer is yes.
pub fn wait_until(what: &str, mut question: impl FnMut() -> bool) {
    wait_for(what, || question().then_some(()));
}

/// A port that nobody listens on, and that this test process gives out once. It lies below the
/// range from which the system takes the ports of outgoing connections, so that a member can be
/// restarted on it.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut candidate = 15_000 + (std::process::id() % 1_500) as u16 * 11;
    loop {
        candidate = if candidate >= 31_990 {
            15_000
        } else {
            candidate + 1
        };
        if !given.contains(&candidate) && TcpListener::bind(("127.0.0.1", candidate)).is_ok() {
            given.insert(candidate);
            return candidate;
        }
    }
}
