//! Counts the sessions of nsqds, and what happens to them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metered;

use super::labels::{Counters, Kind, saturated};

/// An event in the life of an nsqd's session.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SessionEvent {
    /// The nsqd identified itself.
    Attached,
    /// Its connection ended.
    Detached,
    /// No PING within the timeout: the nsqd is hidden.
    Inactive,
    /// The nsqd sends PINGs again.
    ActiveAgain,
    /// It was recorded by an earlier incarnation of this member, and its nsqd did not come back.
    Abandoned,
    /// It was silent while another connection of its nsqd was not, so this member closed it.
    PresumedDead,
    /// A command was answered `E_UNAVAILABLE`; what it asked for is recorded later.
    Unavailable,
    /// The client broke the protocol.
    ProtocolError,
}

impl SessionEvent {
    fn name(self) -> &'static str {
        match self {
            SessionEvent::Attached => "attached",
            SessionEvent::Detached => "detached",
            SessionEvent::Inactive => "inactive",
            SessionEvent::ActiveAgain => "active_again",
            SessionEvent::Abandoned => "abandoned",
            SessionEvent::PresumedDead => "presumed_dead",
            SessionEvent::Unavailable => "unavailable",
            SessionEvent::ProtocolError => "protocol_error",
        }
    }
}

/// A snapshot of what this member's sessions hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SessionCounts {
    /// Sessions beyond the first of their nsqd.
    pub(crate) surplus: usize,
    /// Bytes of registrations that wait to be committed.
    pub(crate) undecided_bytes: usize,
    /// Attachments of earlier incarnations.
    pub(crate) inherited: usize,
    /// Differences that routine checks have found and repaired.
    pub(crate) repairs: u64,
}

#[derive(Debug, Default)]
pub(super) struct SessionMetrics {
    events: Counters,
    sessions: Gauge,
    surplus: Gauge,
    undecided_bytes: Gauge,
    inherited: Gauge,
    repairs: Counter,
}

impl SessionMetrics {
    pub(super) fn register(&self, metered: &mut Metered) {
        metered.register(
            "nsqd_session_events",
            "Events in the life of nsqd sessions at this member, by kind",
            self.events.clone(),
        );
        metered.register(
            "nsqd_sessions",
            "nsqd sessions open at this member",
            self.sessions.clone(),
        );
        metered.register(
            "nsqd_sessions_surplus",
            "Sessions of nsqds that have another session at this member",
            self.surplus.clone(),
        );
        metered.register(
            "nsqd_undecided_bytes",
            "Memory held by registrations waiting to be committed, in bytes",
            self.undecided_bytes.clone(),
        );
        metered.register(
            "inherited_attachments",
            "Attachments recorded by earlier incarnations of this member whose nsqds are not back",
            self.inherited.clone(),
        );
        metered.register(
            "reconciler_repairs",
            "Differences between sessions and registry that a routine check found and repaired",
            self.repairs.clone(),
        );
    }

    pub(super) fn event(&self, event: SessionEvent) {
        let kind = event.name();
        self.events.get_or_create(&Kind { kind }).inc();
        match event {
            SessionEvent::Attached => self.sessions.inc(),
            SessionEvent::Detached => self.sessions.dec(),
            _ => return,
        };
    }

    pub(super) fn read(&self, counts: SessionCounts) {
        self.surplus.set(saturated(counts.surplus));
        self.undecided_bytes.set(saturated(counts.undecided_bytes));
        self.inherited.set(saturated(counts.inherited));
        self.repairs
            .inc_by(counts.repairs.saturating_sub(self.repairs.get()));
    }
}
