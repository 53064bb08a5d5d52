//! Measures how long the log's syncs take, and reports slow ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The upper bounds of the histogram's buckets, in microseconds; the last bucket has none.
pub const BOUNDS_MICROS: [u64; 11] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000, 10_000_000,
];

/// A sync that takes longer is logged.
const SLOW: Duration = Duration::from_secs(1);

/// How many syncs took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Syncs up to each of [`BOUNDS_MICROS`] and above the one before, then all longer ones.
    pub buckets: [u64; BOUNDS_MICROS.len() + 1],
    /// The time that all took together.
    pub total: Duration,
}

/// Counts syncs; one at a time is running.
pub(super) struct SyncTimes {
    base: Instant,
    /// Microseconds from `base` to the start of the running sync, plus one; 0 if none is running.
    running: AtomicU64,
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    total_micros: AtomicU64,
}

impl SyncTimes {
    pub(super) fn new() -> SyncTimes {
        SyncTimes {
            base: Instant::now(),
            running: AtomicU64::new(0),
            buckets: Default::default(),
            total_micros: AtomicU64::new(0),
        }
    }

    /// Runs a sync and counts it.
    pub(super) fn measure<T>(&self, sync: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let since = micros(started.duration_since(self.base)).saturating_add(1);
        self.running.store(since, Ordering::Relaxed);
        let outcome = sync();
        self.running.store(0, Ordering::Relaxed);
        self.count(started.elapsed());
        outcome
    }

    /// For how long the running sync has been running.
    pub(super) fn running_for(&self) -> Option<Duration> {
        let since = self.running.load(Ordering::Relaxed).checked_sub(1)?;
        let since = Duration::from_micros(since);
        Some(self.base.elapsed().saturating_sub(since))
    }

    pub(super) fn counts(&self) -> SyncCounts {
        let mut counts = SyncCounts {
            total: Duration::from_micros(self.total_micros.load(Ordering::Relaxed)),
            ..SyncCounts::default()
        };
        for (count, bucket) in counts.buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        counts
    }

    fn count(&self, took: Duration) {
        let micros = micros(took);
        self.total_micros.fetch_add(micros, Ordering::Relaxed);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        if took > SLOW {
            tracing::warn!(took_ms = took.as_millis(), "disk sync was slow");
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sync_is_in_one_bucket() {
        let times = SyncTimes::new();
        for micros in [0, 100, 101, 250, 9_999_999, 10_000_000, 10_000_001] {
            times.count(Duration::from_micros(micros));
        }
        let counts = times.counts();
        let mut expected = [0; BOUNDS_MICROS.len() + 1];
        (expected[0], expected[1], expected[10], expected[11]) = (2, 2, 2, 1);
        assert_eq!(counts.buckets, expected);
        assert_eq!(counts.total, Duration::from_micros(30_000_451));
    }

    #[test]
    fn a_running_sync_is_seen() {
        let times = SyncTimes::new();
        assert_eq!(times.running_for(), None);
        times.measure(|| assert!(times.running_for().is_some()));
        assert_eq!(times.running_for(), None);
        assert_eq!(times.counts().buckets.iter().sum::<u64>(), 1);
    }
}
