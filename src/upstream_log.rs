//! Logs the lines that nsqlookupd logs, in its words: alerts and dashboards may match them.
//!
//! As text they have no fields after the message; as JSON they have all fields. Individual
//! registrations are logged at debug: upstream logs thousands when one large nsqd connects.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{Method, Uri};
use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};

use crate::durations::format_duration;

/// The target of these lines.
pub(crate) const TARGET: &str = "raftlookupd::upstream_log";

/// A change of a registration by an nsqd.
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

/// A protocol error, which ends the connection.
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

/// An HTTP request that was answered; at debug if machines poll its path.
pub(crate) fn answered(
    is_detail: bool,
    (method, uri): (&Method, &Uri),
    status: u16,
    remote: SocketAddr,
    elapsed: Duration,
) {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: TARGET,
                %method,
                %uri,
                status,
                %remote,
                elapsed_us = micros,
                "{status} {method} {uri} ({remote}) {}",
                format_duration(elapsed)
            )
        };
    }
    match is_detail {
        true => line!(debug),
        false => line!(info),
    }
}
