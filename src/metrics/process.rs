//! Shows what this process is, and what it has open.

use crate::accept::Slots;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metered;

use super::labels::{Build, Gauges, saturated, set};
use crate::version;

#[derive(Debug, Default)]
pub(super) struct ProcessMetrics {
    build: Family<Build, Gauge>,
    connections: Gauges,
    most_connections: Gauges,
    lines_lost: Gauge,
}

impl ProcessMetrics {
    pub(super) fn register(&self, metered: &mut Metered) {
        metered.register(
            "build_info",
            "Always 1; labels are raftlookupd's version and commit, and the nsqlookupd version spoken",
            self.build.clone(),
        );
        let labels = Build {
            version: version::RAFTLOOKUPD,
            commit: version::COMMIT,
            nsqlookupd: version::NSQLOOKUPD,
        };
        self.build.get_or_create(&labels).set(1);
        metered.register(
            "connections",
            "Open connections by interface",
            self.connections.clone(),
        );
        metered.register(
            "connections_most",
            "Limit of open connections by interface; further ones wait",
            self.most_connections.clone(),
        );
        metered.register(
            "log_lines_lost",
            "Log lines dropped because standard error was not read fast enough",
            self.lines_lost.clone(),
        );
    }

    pub(super) fn connections(&self, kind: &'static str, slots: &Slots) {
        set(&self.connections, kind, slots.taken());
        set(&self.most_connections, kind, slots.most());
    }

    pub(super) fn lines_lost(&self, lines: usize) {
        self.lines_lost.set(saturated(lines));
    }
}
