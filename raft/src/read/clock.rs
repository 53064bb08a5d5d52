//! The time by which tombstones end: the same at all members, whatever their wall clocks say.
//!
//! The leader's time is the cluster's. The others take it over with every sign of life and every
//! read index, and one of them that comes to lead goes on from there. So a wall clock counts once,
//! for a member that starts and has not heard a leader; one that is wrong by minutes, or jumps
//! while the cluster runs, changes nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::UnixMillis;

/// The cluster's time, as far as this member knows it: late by the way from the leader.
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
    /// Shows what the member's own wall clock shows now.
    pub(crate) fn starting_at(wall_clock: UnixMillis) -> Self {
        ClusterClock(Mutex::new(Reading::of(wall_clock)))
    }

    pub(crate) fn now(&self) -> UnixMillis {
        let reading = self.reading();
        reading.time.saturating_add(millis(reading.at.elapsed()))
    }

    /// The leader has just said that it is so late.
    pub(crate) fn take_over(&self, leaders: UnixMillis) {
        *self.reading() = Reading::of(leaders);
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
