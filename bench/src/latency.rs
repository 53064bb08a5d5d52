//! How long operations took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Told from 0, in nanoseconds.
const SHORTEST: u64 = 1_000;

/// One minute, in nanoseconds. What takes longer counts as that.
const LONGEST: u64 = 60_000_000_000;

/// A histogram of durations, to three digits.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is shown of a histogram, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    pub(crate) count: u64,
}

impl Latencies {
    #[expect(clippy::expect_used, reason = "the bounds are constant")]
    pub(crate) fn new() -> Self {
        Latencies(Histogram::new_with_bounds(SHORTEST, LONGEST, 3).expect("sound bounds"))
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(LONGEST);
        self.0.saturating_record(nanos.min(LONGEST));
    }

    /// Adds what another one has recorded.
    pub(crate) fn merge(&mut self, other: &Latencies) {
        // Cannot fail: both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let at = |quantile| millis(self.0.value_at_quantile(quantile));
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: millis(self.0.max()),
            count: self.0.len(),
        }
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        let shown = latencies.percentiles();
        for (value, expected) in [
            (shown.p50, 500.0),
            (shown.p90, 900.0),
            (shown.p99, 990.0),
            (shown.p999, 999.0),
            (shown.max, 1000.0),
        ] {
            assert!((value / expected - 1.0).abs() < 0.002, "{value} {expected}");
        }
        assert_eq!(shown.count, 1000);
    }

    #[test]
    fn what_takes_longer_than_can_be_shown_is_not_lost() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(3600));
        let mut sum = Latencies::new();
        sum.record(Duration::ZERO);
        sum.merge(&latencies);
        let shown = sum.percentiles();
        assert_eq!(shown.count, 2);
        assert!(shown.max >= 60_000.0, "{}", shown.max);
    }
}
