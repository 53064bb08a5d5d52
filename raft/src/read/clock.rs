//! Keeps the cluster's time, by which tombstones end: the same at all members, even if their wall
//! clocks differ by minutes or jump.
//!
//! The leader's time is the cluster's. The others adopt it with every keep-alive and every read
//! index, and the next leader continues from there. A wall clock is used once: by a member that
//! starts and has not heard from a leader.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::UnixMillis;

/// The cluster's time as this member knows it: late by the travel time from the leader.
#[derive(Debug)]
pub(crate) struct ClusterClock(Mutex<Reading>);

#[derive(Debug)]
struct Reading {
    time: UnixMillis,
    at: Instant,
}

impl Reading {
    fn of(time: UnixMillis) -> Self {
        Reading {
            time,
            at: Instant::now(),
        }
    }
}

impl ClusterClock {
    /// Starts with the member's own wall clock.
    pub(crate) fn starting_at(wall_clock: UnixMillis) -> Self {
        ClusterClock(Mutex::new(Reading::of(wall_clock)))
    }

    pub(crate) fn now(&self) -> UnixMillis {
        let reading = self.reading();
        reading.time.saturating_add(millis(reading.at.elapsed()))
    }

    /// Adopts the time that the leader has just reported.
    pub(crate) fn adopt(&self, leaders: UnixMillis) {
        *self.reading() = Reading::of(leaders);
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
