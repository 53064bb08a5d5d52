//! What operators watch, in the OpenMetrics text format.
//!
//! Counters are counted where things happen; gauges are read off the registry when somebody
//! asks. No metric carries a topic's or an nsqd's name: there may be any number of them.

use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metered;
use raftlookupd_raft::accept::Slots;
use raftlookupd_raft::storage::registration_db::Lifetimes;
use raftlookupd_raft::{Registry, Status};

use crate::http::long_answers::LongAnswers;
use crate::nsqd::owner::Counts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    path: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: String,
}

type Counters = Family<Kind, Counter>;
type Gauges = Family<Kind, Gauge>;

/// What can happen to the session of an nsqd.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SessionEvent {
    /// It identified itself.
    Attached,
    /// Its connection ended.
    Detached,
    /// It did not PING and is hidden.
    Inactive,
    /// It PINGs again.
    ActiveAgain,
    /// It belonged to an earlier incarnation of this member, and its nsqd did not come back.
    Abandoned,
    /// It was silent while another connection of its nsqd was not.
    PresumedDead,
    /// It was answered `E_UNAVAILABLE`; what it asked for follows.
    Unavailable,
    /// It broke the protocol.
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

/// All metrics of one member.
#[derive(Debug)]
pub(crate) struct Metrics {
    metered: Metered,
    requests: Family<Request, Counter>,
    reads: Counters,
    session_events: Counters,
    sessions: Gauge,
    owner: OwnerGauges,
    long_answers: Gauge,
    long_answer_bytes: Gauge,
    connections: Gauges,
    most_connections: Gauges,
    registry: RegistryGauges,
    lines_lost: Gauge,
    /// Held while everything is read and shown.
    reading: Mutex<()>,
}

#[derive(Debug, Default)]
struct RegistryGauges {
    names: Gauges,
    claims: Gauge,
    raft: Gauges,
    log_index: Gauges,
    log_bytes: Gauge,
    events_pending: Gauge,
    events_committed: Gauge,
    members: Gauges,
    members_absent: Gauges,
    staleness_ms: Gauge,
    peer_silence_ms: Family<Peer, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metered = Metered::with_prefix("nsqlookup");
        let requests = Family::default();
        let (reads, session_events) = (Counters::default(), Counters::default());
        let sessions = Gauge::default();
        let registry = RegistryGauges::default();
        metered.register(
            "http_requests",
            "HTTP requests answered, by endpoint (other: none of them) and status",
            requests.clone(),
        );
        metered.register("reads", "Reads by how fresh they were", reads.clone());
        metered.register(
            "nsqd_session_events",
            "What happened to sessions of nsqds at this member",
            session_events.clone(),
        );
        metered.register(
            "nsqd_sessions",
            "nsqds connected to this member",
            sessions.clone(),
        );
        let (connections, most_connections) = (Gauges::default(), Gauges::default());
        metered.register(
            "connections",
            "Connections by interface",
            connections.clone(),
        );
        metered.register(
            "connections_most",
            "How many there can be; more wait",
            most_connections.clone(),
        );
        registry.register(&mut metered);
        let (long_answers, long_answer_bytes) = (Gauge::default(), Gauge::default());
        metered.register(
            "http_long_answers_building",
            "Long HTTP answers that are being built",
            long_answers.clone(),
        );
        metered.register(
            "http_long_answer_bytes",
            "Memory of long HTTP answers that are being built or sent, in bytes",
            long_answer_bytes.clone(),
        );
        let owner = OwnerGauges::default();
        owner.register(&mut metered);
        let lines_lost = Gauge::default();
        metered.register(
            "log_lines_lost",
            "Log lines that were not written, since nobody reads them",
            lines_lost.clone(),
        );
        Metrics {
            lines_lost,
            metered,
            requests,
            reads,
            session_events,
            sessions,
            owner,
            long_answers,
            long_answer_bytes,
            connections,
            most_connections,
            registry,
            reading: Mutex::default(),
        }
    }

    pub(crate) fn request(&self, path: &'static str, code: u16) {
        self.requests.get_or_create(&Request { path, code }).inc();
    }

    /// `kind`: `linearizable`, `stale` (asked for), or `degraded` (for want of a quorum).
    pub(crate) fn read(&self, kind: &'static str) {
        self.reads.get_or_create(&Kind { kind }).inc();
    }

    pub(crate) fn session(&self, event: SessionEvent) {
        let kind = event.name();
        self.session_events.get_or_create(&Kind { kind }).inc();
        match event {
            SessionEvent::Attached => self.sessions.inc(),
            SessionEvent::Detached => self.sessions.dec(),
            _ => return,
        };
    }

    /// How many connections an interface has: `tcp` or `http`.
    pub(crate) fn connections(&self, kind: &'static str, slots: &Slots) {
        let kind = Kind { kind };
        let (taken, most) = (whole(slots.taken() as u64), whole(slots.most() as u64));
        self.connections.get_or_create(&kind).set(taken);
        self.most_connections.get_or_create(&kind).set(most);
    }

    /// Long answers that are being built or sent.
    pub(crate) fn long_answers(&self, answers: &LongAnswers) {
        self.long_answers.set(whole(answers.building() as u64));
        self.long_answer_bytes.set(whole(answers.bytes() as u64));
    }

    /// Everything as text. Before the registry has loaded its gauges are 0.
    pub(crate) fn text(
        &self,
        registry: Option<(&Registry, Lifetimes)>,
        sessions: Counts,
        lines_lost: usize,
    ) -> String {
        // What is read is only forgotten by the next reading.
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.lines_lost.set(whole(lines_lost as u64));
        self.owner.read(sessions);
        if let Some((registry, lifetimes)) = registry {
            self.registry.read(registry, lifetimes);
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.metered);
        text
    }
}

/// What the sessions of this member have.
#[derive(Debug, Default)]
struct OwnerGauges {
    surplus_sessions: Gauge,
    undecided_bytes: Gauge,
    inherited: Gauge,
    repairs: Counter,
}

impl OwnerGauges {
    fn register(&self, metered: &mut Metered) {
        metered.register(
            "nsqd_sessions_surplus",
            "Sessions of nsqds that have another session at this member",
            self.surplus_sessions.clone(),
        );
        metered.register(
            "nsqd_undecided_bytes",
            "Memory of registrations that wait to be committed",
            self.undecided_bytes.clone(),
        );
        metered.register(
            "inherited_attachments",
            "Attachments of earlier incarnations of this member whose nsqds have not come back yet",
            self.inherited.clone(),
        );
        metered.register(
            "reconciler_repairs",
            "Differences between sessions and registry found by a routine check",
            self.repairs.clone(),
        );
    }

    fn read(&self, counts: Counts) {
        self.surplus_sessions
            .set(whole(counts.surplus_sessions as u64));
        self.undecided_bytes
            .set(whole(counts.undecided_bytes as u64));
        self.inherited.set(whole(counts.inherited as u64));
        self.repairs
            .inc_by(counts.repairs.saturating_sub(self.repairs.get()));
    }
}

impl RegistryGauges {
    fn register(&self, metered: &mut Metered) {
        metered.register(
            "names",
            "Topics, channels, producers, attachments",
            self.names.clone(),
        );
        metered.register(
            "claims",
            "Claims of nsqds on topics and channels",
            self.claims.clone(),
        );
        metered.register(
            "raft",
            "Leadership and term as this member sees them",
            self.raft.clone(),
        );
        metered.register(
            "raft_log_index",
            "Positions in the log",
            self.log_index.clone(),
        );
        metered.register(
            "raft_log_bytes",
            "The log that is not purged",
            self.log_bytes.clone(),
        );
        metered.register(
            "events_pending",
            "Events of this member that wait to be committed",
            self.events_pending.clone(),
        );
        metered.register(
            "events_committed",
            "Events of this member committed since it started",
            self.events_committed.clone(),
        );
        metered.register("members", "Members by role", self.members.clone());
        metered.register(
            "members_absent",
            "Members that send no keep-alives: away (their nsqds are listed), hidden (no longer)",
            self.members_absent.clone(),
        );
        metered.register(
            "staleness_milliseconds",
            "For how long this member may have missed changes",
            self.staleness_ms.clone(),
        );
        metered.register(
            "peer_silence_milliseconds",
            "Since a member last answered this one",
            self.peer_silence_ms.clone(),
        );
    }

    fn read(&self, registry: &Registry, lifetimes: Lifetimes) {
        let status: Status = registry.status();
        let gauge = |family: &Gauges, kind: &'static str, value: u64| {
            family.get_or_create(&Kind { kind }).set(whole(value));
        };
        let totals = registry.read(|db| db.totals());
        gauge(&self.names, "topic", totals.topics as u64);
        gauge(&self.names, "channel", totals.channels as u64);
        gauge(&self.names, "producer", totals.producers as u64);
        gauge(&self.names, "attachment", totals.attachments as u64);
        self.claims.set(whole(totals.claims as u64));
        gauge(
            &self.raft,
            "is_leader",
            (status.leader == Some(status.id)).into(),
        );
        gauge(&self.raft, "has_leader", status.leader.is_some().into());
        gauge(&self.raft, "term", status.term);
        gauge(&self.log_index, "last", status.last_log_index);
        gauge(&self.log_index, "applied", status.applied_index);
        gauge(&self.log_index, "snapshot", status.snapshot_index);
        gauge(&self.log_index, "purged", status.purged_index);
        self.log_bytes.set(whole(status.log_bytes));
        self.events_pending.set(whole(status.pending_events as u64));
        self.events_committed.set(whole(status.committed_events));
        let voters = status.members.iter().filter(|member| member.voter).count();
        gauge(&self.members, "voter", voters as u64);
        gauge(
            &self.members,
            "learner",
            (status.members.len() - voters) as u64,
        );
        let is_away = |id| registry.read(|db| db.member(id).is_some_and(|row| row.away.is_some()));
        let is_hidden = |id| registry.read(|db| db.is_hidden(id, lifetimes));
        let members = || status.members.iter().map(|member| member.id);
        let away = members().filter(|id| is_away(*id)).count();
        let hidden = members().filter(|id| is_hidden(*id)).count();
        gauge(&self.members_absent, "away", away as u64);
        gauge(&self.members_absent, "hidden", hidden as u64);
        self.staleness_ms
            .set(whole(registry.staleness().as_millis() as u64));
        self.peer_silence_ms.clear();
        for member in status.members {
            if let Some(silence) = member.last_contact {
                let peer = Peer { peer: member.name };
                let gauge = self.peer_silence_ms.get_or_create(&peer);
                gauge.set(whole(silence.as_millis() as u64));
            }
        }
    }
}

/// Gauges are signed; what does not fit is as large as can be shown.
fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.request("/lookup", 200);
        metrics.request("/lookup", 200);
        metrics.read("stale");
        metrics.session(SessionEvent::Attached);
        metrics.session(SessionEvent::Attached);
        metrics.session(SessionEvent::Detached);
        let text = metrics.text(None, Counts::default(), 7);
        for line in [
            r#"nsqlookup_http_requests_total{path="/lookup",code="200"} 2"#,
            r#"nsqlookup_reads_total{kind="stale"} 1"#,
            r#"nsqlookup_nsqd_session_events_total{kind="attached"} 2"#,
            "nsqlookup_nsqd_sessions 1",
            "nsqlookup_log_lines_lost 7",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        }
    }
}
