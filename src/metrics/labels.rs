//! Labels metrics: by kind, and by what a request or a peer is called; names their types.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// A duration.
pub(super) type Seconds = Gauge<f64, AtomicU64>;

/// Counters of one name, by kind.
pub(super) type Counters = Family<Kind, Counter>;

/// Gauges of one name, by kind.
pub(super) type Gauges = Family<Kind, Gauge>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Kind {
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Request {
    pub(super) path: &'static str,
    pub(super) code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Peer {
    pub(super) peer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    pub(super) version: &'static str,
    pub(super) commit: &'static str,
    pub(super) nsqlookupd: &'static str,
}

/// Sets one gauge of several.
pub(super) fn set(gauges: &Gauges, kind: &'static str, value: impl TryInto<i64>) {
    gauges.get_or_create(&Kind { kind }).set(saturated(value));
}

/// Gauges are i64; larger values saturate.
pub(super) fn saturated(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
