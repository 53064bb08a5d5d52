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
        let bounds = bounds.chain([f64::MAX]);
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
