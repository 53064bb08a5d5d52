//! The lines that nsqlookupd logs as well, in its words: somebody's alerts and dashboards read them.
//! As text they have no fields behind the message; as JSON they have them all.
//!
//! What single registrations are is a detail here: upstream writes a line for each, thousands
//! when one large nsqd connects.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{Method, Uri};
use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};

/// Marks these lines.
pub(crate) const TARGET: &str = "raftlookupd::upstream_log";

/// What nsqds do to registrations.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Register,
    Unregister,
}

pub(crate) fn new_client(remote: SocketAddr) {
    tracing::info!(target: TARGET, %remote, "TCP: new client({remote})");
}

pub(crate) fn exiting(remote: SocketAddr) {
    tracing::info!(target: TARGET, %remote, "PROTOCOL(V1): [{remote}] exiting ioloop");
}

/// A client's last words, and ours.
pub(crate) fn protocol_error(remote: SocketAddr, error: &str) {
    tracing::error!(target: TARGET, %remote, error, "[{remote}] - {error}");
}

pub(crate) fn identified(remote: &str, producer: &ProducerId, info: &PeerInfo) {
    let (address, tcp) = (&producer.broadcast_address, producer.tcp_port);
    let (http, version) = (info.http_port, &info.version);
    tracing::info!(
        target: TARGET,
        remote,
        producer = %format_args!("{address}:{tcp}"),
        version,
        "CLIENT({remote}): IDENTIFY Address:{address} TCP:{tcp} HTTP:{http} Version:{version}"
    );
}

pub(crate) fn registration(remote: SocketAddr, change: Change, topic: &str, channel: Option<&str>) {
    let word = match change {
        Change::Register => "REGISTER",
        Change::Unregister => "UNREGISTER",
    };
    let category = match channel {
        None => "topic",
        Some(_) => "channel",
    };
    let subkey = channel.unwrap_or_default();
    tracing::debug!(
        target: TARGET,
        %remote,
        topic,
        channel,
        "DB: client({remote}) {word} category:{category} key:{topic} subkey:{subkey}"
    );
}

/// An answer over HTTP; a detail if it is one of those that machines ask for all the time.
pub(crate) fn answered(
    is_detail: bool,
    (method, uri): (&Method, &Uri),
    status: u16,
    remote: SocketAddr,
    elapsed: Duration,
) {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    // Debug writes a duration as Go does.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: TARGET,
                %method,
                %uri,
                status,
                %remote,
                elapsed_us = micros,
                "{status} {method} {uri} ({remote}) {elapsed:?}"
            )
        };
    }
    match is_detail {
        true => line!(debug),
        false => line!(info),
    }
}
