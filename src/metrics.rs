//! Exposes what operators watch, as OpenMetrics or in Prometheus' text format.
//!
//! Counters are counted where things happen; gauges are read off the registry when metrics are
//! scraped. No metric has a topic's or an nsqd's name as label: there may be any number of them.
//!
//! Each group of metrics registers, counts and reads its own: `http`, `sessions`, `registry`,
//! `process`. [`Metrics`] is all of them together.

mod format;
mod http;
mod labels;
mod process;
mod registry;
mod sessions;
mod syncs;

use std::sync::{Mutex, PoisonError};

use crate::accept::Slots;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as Metered;
use raftlookupd_raft::Registry;
use raftlookupd_raft::storage::registration_db::Lifetimes;

use http::HttpMetrics;
use process::ProcessMetrics;
use registry::RegistryMetrics;
use sessions::SessionMetrics;

pub(crate) use format::to_text_format;
pub(crate) use sessions::{SessionCounts, SessionEvent};

/// All metrics of one member.
#[derive(Debug)]
pub(crate) struct Metrics {
    metered: Metered,
    http: HttpMetrics,
    sessions: SessionMetrics,
    registry: RegistryMetrics,
    process: ProcessMetrics,
    /// Held while gauges are read and encoded.
    reading: Mutex<()>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Metrics {
            metered: Metered::default(),
            http: HttpMetrics::default(),
            sessions: SessionMetrics::default(),
            registry: RegistryMetrics::default(),
            process: ProcessMetrics::default(),
            reading: Mutex::default(),
        };
        let mut metered = Metered::with_prefix("nsqlookup");
        metrics.http.register(&mut metered);
        metrics.sessions.register(&mut metered);
        metrics.registry.register(&mut metered);
        metrics.process.register(&mut metered);
        Metrics { metered, ..metrics }
    }

    pub(crate) fn request(&self, path: &'static str, code: u16) {
        self.http.request(path, code);
    }

    /// `kind`: `linearizable`, `stale` (requested), or `degraded` (no quorum).
    pub(crate) fn read(&self, kind: &'static str) {
        self.http.read(kind);
    }

    pub(crate) fn session(&self, event: SessionEvent) {
        self.sessions.event(event);
    }

    /// Records how many connections an interface has, `tcp` or `http`.
    pub(crate) fn connections(&self, kind: &'static str, slots: &Slots) {
        self.process.connections(kind, slots);
    }

    /// Records how many long responses are being built, and the memory of those built or sent.
    pub(crate) fn long_answers(&self, building: usize, bytes: usize) {
        self.http.long_answers(building, bytes);
    }

    /// All metrics as OpenMetrics. Before the registry has loaded, its gauges are 0.
    pub(crate) fn text(
        &self,
        registry: Option<(&Registry, Lifetimes)>,
        sessions: SessionCounts,
        lines_lost: usize,
    ) -> String {
        // A panic meanwhile leaves gauges that the next scrape overwrites.
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.process.lines_lost(lines_lost);
        self.sessions.read(sessions);
        if let Some((registry, lifetimes)) = registry {
            self.registry.read(registry, lifetimes);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.metered);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.request("/lookup", 200);
        metrics.request("/lookup", 200);
        metrics.read("stale");
        metrics.session(SessionEvent::Attached);
        metrics.session(SessionEvent::Attached);
        metrics.session(SessionEvent::Detached);
        let text = metrics.text(None, SessionCounts::default(), 7);
        let build = format!(
            r#"nsqlookup_build_info{{version="{}",commit="{}",nsqlookupd="1.3.0"}} 1"#,
            version::RAFTLOOKUPD,
            version::COMMIT
        );
        for line in [
            r#"nsqlookup_http_requests_total{path="/lookup",code="200"} 2"#,
            r#"nsqlookup_reads_total{kind="stale"} 1"#,
            r#"nsqlookup_nsqd_session_events_total{kind="attached"} 2"#,
            "nsqlookup_nsqd_sessions 1",
            "nsqlookup_log_lines_lost 7",
            &build,
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }
}
