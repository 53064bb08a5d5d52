//! raftlookupd as a target.

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

use super::process::Process;
use super::spec::Program;
use super::{Member, free_address, wait_for};
use crate::clients::http;
use crate::error::{Error, Result};

/// What is of interest in /cluster/status.
#[derive(Debug, Deserialize)]
struct Status {
    id: u64,
    leader: Option<u64>,
    last_log_index: u64,
}

/// Members of one cluster, not started yet.
pub(super) fn members(program: &Program, folder: &Path) -> Result<Vec<Member>> {
    let names: Vec<String> = (1..=program.members).map(|n| format!("n{n}")).collect();
    let peers = names.iter().map(|_| free_address());
    let peers = peers.collect::<Result<Vec<SocketAddr>>>()?;
    let list = names.iter().zip(&peers);
    let list: Vec<String> = list.map(|(name, peer)| format!("{name}={peer}")).collect();
    let list = list.join(",");
    let member = |(name, peer): (&String, &SocketAddr)| {
        let (tcp, http) = (free_address()?, free_address()?);
        let data = folder.join(name);
        let args = vec![
            format!("--name={name}"),
            format!("--data-path={}", data.display()),
            format!("--tcp-address={tcp}"),
            format!("--http-address={http}"),
            format!("--peer-address={peer}"),
            format!("--initial-cluster={list}"),
            "--broadcast-address=127.0.0.1".into(),
            "--inactive-producer-timeout=1h".into(),
            "--log-level=warn".into(),
        ];
        let log = folder.join(format!("{name}.log"));
        Ok(Member {
            tcp,
            http,
            process: Some(Process::new(&program.path, args, log, Some(data))),
        })
    };
    names.iter().zip(&peers).map(member).collect()
}

/// Whether it answers with a quorum behind it.
pub(super) async fn is_ready(member: &Member) -> bool {
    let answer = http::fetch_once(member.http, "/topics?consistency=linearizable").await;
    matches!(answer, Ok((200, _)))
}

/// The position of the leader, once there is one.
pub(super) async fn leader(members: &[Member]) -> Result<usize> {
    wait_for("a leader", || async {
        for (position, member) in members.iter().enumerate() {
            match status(member).await {
                Ok(status) if status.leader == Some(status.id) => return Some(position),
                _ => {}
            }
        }
        None
    })
    .await
}

/// The index of the last entry of its log.
pub(super) async fn log_index(member: &Member) -> Result<u64> {
    Ok(status(member).await?.last_log_index)
}

async fn status(member: &Member) -> Result<Status> {
    let (_, body) = http::fetch_once(member.http, "/cluster/status").await?;
    serde_json::from_slice(&body).map_err(|error| Error::Answer(format!("status: {error}")))
}
