//! etcd as a target.

use std::net::SocketAddr;
use std::path::Path;

use super::process::Process;
use super::spec::Program;
use super::{Member, free_address, wait_for};
use crate::clients::etcd::Client;
use crate::error::Result;

/// Members of one cluster, not started yet. Timeouts are etcd's own.
pub(super) fn members(program: &Program, folder: &Path) -> Result<Vec<Member>> {
    let names: Vec<String> = (1..=program.members).map(|n| format!("n{n}")).collect();
    let peers = names.iter().map(|_| free_address());
    let peers = peers.collect::<Result<Vec<SocketAddr>>>()?;
    let list = names.iter().zip(&peers);
    let list: Vec<String> = list
        .map(|(name, peer)| format!("{name}=http://{peer}"))
        .collect();
    let list = list.join(",");
    let member = |(name, peer): (&String, &SocketAddr)| {
        let client = free_address()?;
        let data = folder.join(name);
        let args = vec![
            format!("--name={name}"),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls=http://{client}"),
            format!("--advertise-client-urls=http://{client}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster={list}"),
            "--log-level=error".into(),
        ];
        let log = folder.join(format!("{name}.log"));
        Ok(Member {
            tcp: client,
            http: client,
            process: Some(Process::new(&program.path, args, log, Some(data))),
        })
    };
    names.iter().zip(&peers).map(member).collect()
}

/// Whether it answers with a quorum behind it.
pub(super) async fn is_ready(member: &Member) -> bool {
    let asked = async { Client::open(member.http).await?.has("ready".into()).await };
    asked.await.is_ok()
}

/// The position of the leader, once there is one.
pub(super) async fn leader(members: &[Member]) -> Result<usize> {
    wait_for("a leader of etcd", || async {
        for (position, member) in members.iter().enumerate() {
            if leads(member).await.is_ok_and(|leads| leads) {
                return Some(position);
            }
        }
        None
    })
    .await
}

async fn leads(member: &Member) -> Result<bool> {
    Client::open(member.http).await?.leads().await
}
