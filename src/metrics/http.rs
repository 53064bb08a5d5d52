//! Counts HTTP requests, reads, and long answers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metered;

use super::labels::{Counters, Kind, Request, saturated};

#[derive(Debug, Default)]
pub(super) struct HttpMetrics {
    requests: Family<Request, Counter>,
    reads: Counters,
    long_answers: Gauge,
    long_answer_bytes: Gauge,
}

impl HttpMetrics {
    pub(super) fn register(&self, metered: &mut Metered) {
        metered.register(
            "http_requests",
            "HTTP requests by endpoint (other: unknown paths) and status code",
            self.requests.clone(),
        );
        metered.register(
            "reads",
            "Reads by consistency: linearizable, stale (requested), degraded (no quorum)",
            self.reads.clone(),
        );
        metered.register(
            "http_long_answers_building",
            "Long HTTP responses being built",
            self.long_answers.clone(),
        );
        metered.register(
            "http_long_answer_bytes",
            "Memory held by long HTTP responses being built or sent, in bytes",
            self.long_answer_bytes.clone(),
        );
    }

    pub(super) fn request(&self, path: &'static str, code: u16) {
        self.requests.get_or_create(&Request { path, code }).inc();
    }

    pub(super) fn read(&self, kind: &'static str) {
        self.reads.get_or_create(&Kind { kind }).inc();
    }

    pub(super) fn long_answers(&self, building: usize, bytes: usize) {
        self.long_answers.set(saturated(building));
        self.long_answer_bytes.set(saturated(bytes));
    }
}
