//! Shows how long the log's syncs take, as a histogram.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use raftlookupd_raft::storage::log_table::sync_times::{BOUNDS_MICROS, SyncCounts};

const MICROS_PER_SECOND: f64 = 1e6;

/// Counted in storage; read when metrics are scraped.
#[derive(Debug, Clone, Default)]
pub(super) struct SyncHistogram(Arc<Mutex<SyncCounts>>);

impl SyncHistogram {
    pub(super) fn read(&self, counts: SyncCounts) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

impl EncodeMetric for SyncHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), Error> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bounds = BOUNDS_MICROS.iter();
        let bounds = bounds.map(|micros| *micros as f64 / MICROS_PER_SECOND);
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(
            counts.total.as_secs_f64(),
            counts.buckets.iter().sum(),
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use std::time::Duration;

    #[test]
    fn buckets_add_up() {
        let histogram = SyncHistogram::default();
        let mut registry = Registry::default();
        registry.register("sync_seconds", "Syncs", histogram.clone());
        let mut counts = SyncCounts {
            total: Duration::from_secs(12),
            ..SyncCounts::default()
        };
        (counts.buckets[0], counts.buckets[9], counts.buckets[11]) = (5, 2, 1);
        histogram.read(counts);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE sync_seconds histogram",
            "sync_seconds_sum 12.0",
            "sync_seconds_count 8",
            r#"sync_seconds_bucket{le="0.0001"} 5"#,
            r#"sync_seconds_bucket{le="1.0"} 7"#,
            r#"sync_seconds_bucket{le="+Inf"} 8"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
