//! Holds what all V1 connections of a member share.

use std::sync::Arc;

use crate::accept::Slots;

use crate::metrics::{Metrics, SessionEvent};
use crate::nsqd::keeper::Keeper;
use crate::nsqd::owner::Verdict;
use crate::nsqd::protocol::error::ProtocolError;
use crate::nsqd::protocol::reply::OK;
use crate::version;

/// The V1 interface of a member.
#[derive(Debug)]
pub(crate) struct Interface {
    /// The limit of connections; further ones wait in the system's queue.
    pub(crate) slots: Slots,
    /// Counts what happens to sessions.
    pub(crate) metrics: Arc<Metrics>,
    /// Keeps the sessions.
    pub(crate) keeper: Keeper,
    /// What IDENTIFY is answered.
    pub(crate) identity: Identity,
}

/// What a member says of itself when an nsqd identifies itself.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Where nsqd reaches this member's HTTP interface.
    pub(crate) broadcast_address: String,
    /// The machine's name for itself.
    pub(crate) hostname: String,
    /// The port of the V1 interface.
    pub(crate) tcp_port: u16,
    /// The port of the HTTP interface.
    pub(crate) http_port: u16,
}

impl Identity {
    /// The answer to IDENTIFY. nsqd only logs the version, but others parse it.
    pub(crate) fn body(&self) -> Vec<u8> {
        let identity = serde_json::json!({
            "tcp_port": self.tcp_port,
            "http_port": self.http_port,
            "version": version::NSQLOOKUPD,
            "hostname": self.hostname,
            "broadcast_address": self.broadcast_address,
        });
        identity.to_string().into_bytes()
    }
}

impl Interface {
    /// The answer to a command with this verdict.
    pub(crate) fn body_of(&self, verdict: Verdict) -> Vec<u8> {
        match verdict {
            Verdict::Done => OK.to_vec(),
            Verdict::Unavailable | Verdict::Confirm => {
                self.metrics.session(SessionEvent::Unavailable);
                ProtocolError::Unavailable.text()
            }
        }
    }
}
