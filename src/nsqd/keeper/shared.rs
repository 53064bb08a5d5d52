//! Holds what all callers of a keeper share, behind one lock: the owner, and who waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use raftlookupd_raft::Registry;
use raftlookupd_raft::storage::registration::{ProducerId, UnixMillis};
use tokio::sync::oneshot;

use crate::clock::{millis, unix_millis};
use crate::metrics::{Metrics, SessionEvent};
use crate::nsqd::owner::{CloseReason, Effect, Now, Owner, SessionId, Settings, Ticket, Verdict};

/// Lines in one tick about nsqds that have two connections: a crowd that reconnects must not flood
/// the log.
const SHARED_LINES: usize = 5;

/// The owner, and what connects it with tasks and clocks.
pub(super) struct Shared {
    pub(super) owner: Owner,
    /// Commands that wait for their verdict.
    pub(super) tickets: HashMap<Ticket, oneshot::Sender<Verdict>>,
    /// Connections that this member may have to close.
    pub(super) connections: HashMap<SessionId, oneshot::Sender<CloseReason>>,
    metrics: Arc<Metrics>,
    began: Instant,
    /// The cluster's time as last known here, and when that was.
    clock: (UnixMillis, Instant),
    shared_lines: usize,
}

impl Shared {
    pub(super) fn new(settings: Settings, metrics: Arc<Metrics>) -> Shared {
        Shared {
            owner: Owner::new(settings),
            tickets: HashMap::new(),
            connections: HashMap::new(),
            metrics,
            began: Instant::now(),
            clock: (unix_millis(), Instant::now()),
            shared_lines: 0,
        }
    }

    pub(super) fn now(&self) -> Now {
        let (clock, at) = self.clock;
        Now {
            moment: self.began.elapsed(),
            clock: clock.saturating_add(millis(at.elapsed())),
        }
    }

    pub(super) fn set_clock(&mut self, clock: UnixMillis) {
        self.clock = (clock, Instant::now());
    }

    /// Reads the cluster's clock, if the registry has loaded.
    pub(super) fn learn_time(&mut self, registry: Option<&Registry>) {
        if let Some(registry) = registry {
            self.set_clock(registry.now());
        }
    }

    /// Allows further log lines: a tick has begun.
    pub(super) fn begin_tick(&mut self) {
        self.shared_lines = 0;
    }

    /// Does what the owner wants done: answers, closes, logs, counts.
    pub(super) fn carry_out(&mut self) {
        for effect in self.owner.take_effects() {
            match effect {
                Effect::Answer(ticket, verdict) => {
                    if let Some(waiting) = self.tickets.remove(&ticket) {
                        // The client may just have gone.
                        let _ = waiting.send(verdict);
                    }
                }
                Effect::Close(session, reason) => self.close(session, reason),
                Effect::Shared {
                    producer,
                    remote_addresses,
                } => self.log_shared(&producer, remote_addresses),
                Effect::Active(producer, active) => self.report_active(&producer, active),
                Effect::Abandoned(nsqds) => self.report_abandoned(nsqds),
            }
        }
    }

    fn close(&mut self, session: SessionId, reason: CloseReason) {
        let Some(connection) = self.connections.remove(&session) else {
            return;
        };
        if reason == CloseReason::PresumedDead {
            self.metrics.session(SessionEvent::PresumedDead);
        }
        // The connection may just have ended by itself.
        let _ = connection.send(reason);
    }

    fn log_shared(&mut self, producer: &ProducerId, [newer, older]: [String; 2]) {
        self.shared_lines += 1;
        if self.shared_lines <= SHARED_LINES {
            tracing::warn!(
                producer = %shown(producer),
                newer,
                older,
                "two connections announce the same nsqd; their registrations are combined"
            );
        }
    }

    fn report_active(&self, producer: &ProducerId, active: bool) {
        let producer = shown(producer);
        if active {
            tracing::info!(producer, "nsqd sends PINGs again, listing it");
            self.metrics.session(SessionEvent::ActiveAgain);
        } else {
            tracing::warn!(
                producer,
                "no PING within --inactive-producer-timeout, hiding the nsqd"
            );
            self.metrics.session(SessionEvent::Inactive);
        }
    }

    fn report_abandoned(&self, nsqds: usize) {
        tracing::warn!(
            nsqds,
            "nsqds registered before the restart did not reconnect, unlisting them"
        );
        for _ in 0..nsqds {
            self.metrics.session(SessionEvent::Abandoned);
        }
    }
}

/// A producer in the log: the address that consumers dial.
fn shown(producer: &ProducerId) -> String {
    format!("{}:{}", producer.broadcast_address, producer.tcp_port)
}
