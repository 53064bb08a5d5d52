//! Answers what operators ask about this member: /ping, /info, /cluster/status and /metrics.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use raftlookupd_raft::{MemberStatus, Status};
use serde::Serialize;

use crate::http::answer::Answer;
use crate::http::context::Shared;
use crate::http::error::HttpError;
use crate::metrics::to_text_format;
use crate::version;

/// GET /ping.
pub(in crate::http) async fn ping() -> Answer {
    Answer::text("OK")
}

/// GET /info: nsqlookupd's only field.
pub(in crate::http) async fn info() -> Result<Answer, HttpError> {
    Answer::json(&BTreeMap::from([("version", version::NSQLOOKUPD)]))
}

#[derive(Serialize)]
struct ClusterStatus {
    version: &'static str,
    commit: &'static str,
    cluster_id: String,
    id: u64,
    name: String,
    leader: Option<u64>,
    term: u64,
    last_log_index: u64,
    applied_index: u64,
    snapshot_index: u64,
    purged_index: u64,
    log_bytes: u64,
    read_only: bool,
    disk_free_bytes: u64,
    registry_rebuilt: bool,
    state_hash: String,
    pending_events: usize,
    committed_events: u64,
    staleness_ms: u64,
    topics: usize,
    channels: usize,
    producers: usize,
    attachments: usize,
    claims: usize,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    id: u64,
    name: String,
    peer_address: String,
    voter: bool,
    joined: bool,
    last_contact_ms: Option<u64>,
}

/// GET /cluster/status.
///
/// # Errors
/// [`HttpError::Loading`].
pub(in crate::http) async fn cluster_status(
    State(context): State<Shared>,
) -> Result<Answer, HttpError> {
    let registry = context.registry().await?;
    let status: Status = registry.status();
    let totals = registry.read(|db| db.totals());
    Answer::json(&ClusterStatus {
        version: version::RAFTLOOKUPD,
        commit: version::COMMIT,
        cluster_id: status.cluster_id,
        id: status.id,
        name: status.name,
        leader: status.leader,
        term: status.term,
        last_log_index: status.last_log_index,
        applied_index: status.applied_index,
        snapshot_index: status.snapshot_index,
        purged_index: status.purged_index,
        log_bytes: status.log_bytes,
        read_only: status.read_only,
        disk_free_bytes: status.disk_free_bytes,
        registry_rebuilt: status.registry_rebuilt,
        state_hash: status.state_hash,
        pending_events: status.pending_events,
        committed_events: status.committed_events,
        staleness_ms: registry.staleness().as_millis() as u64,
        topics: totals.topics,
        channels: totals.channels,
        producers: totals.producers,
        attachments: totals.attachments,
        claims: totals.claims,
        members: status.members.into_iter().map(Member::from).collect(),
    })
}

/// GET /metrics, for Prometheus; works in every state of the member. Who asks for OpenMetrics gets
/// that, as newer versions of Prometheus do.
pub(in crate::http) async fn metrics(State(context): State<Shared>, headers: HeaderMap) -> Answer {
    let registry = context.registry.borrow().clone();
    context.metrics.connections("tcp", &context.tcp_slots);
    context.metrics.connections("http", &context.http_slots);
    let answers = &context.long_answers;
    context
        .metrics
        .long_answers(answers.building(), answers.bytes());
    let sessions = context.keeper.counts();
    let registry = registry.as_ref();
    let registry = registry.map(|registry| (registry, context.lifetimes(registry)));
    let text = context.metrics.text(registry, sessions, context.log.lost());
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|accepted| accepted.to_str().ok());
    match accepted.any(|accepted| accepted.contains("application/openmetrics-text")) {
        true => Answer::open_metrics(text),
        false => Answer::metrics(to_text_format(&text)),
    }
}

impl From<MemberStatus> for Member {
    fn from(member: MemberStatus) -> Self {
        Member {
            id: member.id,
            name: member.name,
            peer_address: member.peer_address,
            voter: member.voter,
            joined: member.joined,
            last_contact_ms: member.last_contact.map(|ago| ago.as_millis() as u64),
        }
    }
}
