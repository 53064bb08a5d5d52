//! Answers who belongs to the cluster, and changes that: /cluster/members, add, remove,
//! transfer-leader.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use raftlookupd_raft::{Changed, MembershipChange, Progress};
use serde::Serialize;

use crate::config::{check_host_port, parse_name};
use crate::http::answer::Answer;
use crate::http::arguments::Arguments;
use crate::http::context::{Context, Shared};
use crate::http::error::HttpError;

/// After this long the outcome of a change is reported as unknown, or as not begun. It includes an
/// election, and the last entries for a new leader.
const CHANGE: Duration = Duration::from_secs(15);

/// The longest name of a member, as in the handshake between members.
const LONGEST_NAME: usize = 255;

/// The longest address: a host name of the longest kind and a port.
const LONGEST_ADDRESS: usize = 262;

#[derive(Serialize)]
struct Members {
    leader: Option<u64>,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    id: u64,
    name: String,
    peer_address: String,
    /// `voter`, `learner`, or `announced` until it has joined.
    role: &'static str,
    leader: bool,
    /// Entries that it misses, as the leader knows; `null` if it was never reached, or the leader is
    /// not.
    lag: Option<u64>,
    /// Since the leader last heard it; `null` as above.
    heard_ms: Option<u64>,
}

#[derive(Serialize)]
struct Done {
    id: u64,
    name: String,
}

/// GET /cluster/members; works without a quorum, with what is known here.
///
/// # Errors
/// [`HttpError::Loading`].
pub(in crate::http) async fn members(State(context): State<Shared>) -> Result<Answer, HttpError> {
    let registry = context.registry().await?;
    let progress = registry.progress().await.unwrap_or_default();
    let progress: BTreeMap<u64, Progress> = progress.iter().map(|one| (one.id, *one)).collect();
    let of = |id| progress.get(&id);
    let status = registry.status();
    let members = status.members.into_iter().map(|member| Member {
        id: member.id,
        role: match (member.joined, member.voter) {
            (false, _) => "announced",
            (true, true) => "voter",
            (true, false) => "learner",
        },
        leader: status.leader == Some(member.id),
        lag: of(member.id).and_then(|one| one.lag),
        heard_ms: of(member.id)
            .and_then(|one| one.heard)
            .map(|heard| heard.as_millis() as u64),
        name: member.name,
        peer_address: member.peer_address,
    });
    Answer::json(&Members {
        leader: status.leader,
        members: members.collect(),
    })
}

/// POST /cluster/add?name=NAME&address=HOST:PORT.
///
/// # Errors
/// [`HttpError::ChangeRefused`] with the reason; those of arguments and of changes.
pub(in crate::http) async fn add(
    State(context): State<Shared>,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let name = arguments.require("name", "NAME")?;
    let address = arguments.require("address", "ADDRESS")?;
    if parse_name(&name).is_err() || name.len() > LONGEST_NAME {
        return Err(HttpError::InvalidArg("NAME"));
    }
    if check_host_port(&address).is_err() || address.len() > LONGEST_ADDRESS {
        return Err(HttpError::InvalidArg("ADDRESS"));
    }
    change(&context, MembershipChange::Add { name, address }).await
}

/// POST /cluster/remove?name=NAME_OR_ID[&force=true].
///
/// # Errors
/// [`HttpError::UnknownMember`], [`HttpError::ChangeRefused`]; those of arguments and of changes.
pub(in crate::http) async fn remove(
    State(context): State<Shared>,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let member = arguments.require("name", "NAME")?;
    let force = match arguments.get("force").as_deref() {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(_) => return Err(HttpError::InvalidArg("FORCE")),
    };
    change(&context, MembershipChange::Remove { member, force }).await
}

/// POST /cluster/transfer-leader[?to=NAME_OR_ID].
///
/// # Errors
/// As [`remove`].
pub(in crate::http) async fn transfer_leader(
    State(context): State<Shared>,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let to = arguments.get("to").map(String::from);
    change(&context, MembershipChange::TransferLeader { to }).await
}

async fn change(context: &Context, change: MembershipChange) -> Result<Answer, HttpError> {
    tracing::info!(?change, "change of the membership requested over HTTP");
    let registry = context.registry().await?;
    let Changed { id, name } = registry.change_membership(change, CHANGE).await?;
    Answer::json(&Done { id, name })
}
