//! openraft's network traits over [`PeerClient`].

use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use raftlookupd_storage::registration::MemberId;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::quorum_contact::QuorumContact;
use crate::log::durable_index::DurableIndex;
use crate::log::log_facts::LogFacts;
use crate::peer::client::{CallError, PeerClient};
use crate::peer::message::PeerRequest;
use crate::types::{PeerNode, TypeConfig};

/// How long replication rests after a peer was out of reach.
const BACKOFF: Duration = Duration::from_millis(100);

/// Makes connections to peers; cheap, since openraft asks for one per barrier and peer.
pub(crate) struct Network {
    /// Makes the calls.
    pub(crate) peers: PeerClient,
    /// What may be called committed.
    pub(crate) log: DurableIndex,
    /// What was called committed.
    pub(crate) facts: Arc<LogFacts>,
    /// Who agreed that this member leads.
    pub(crate) contact: Arc<QuorumContact>,
}

/// Openraft's view of one peer.
pub(crate) struct PeerConnection {
    client: PeerClient,
    log: DurableIndex,
    facts: Arc<LogFacts>,
    contact: Arc<QuorumContact>,
    target: MemberId,
    node: PeerNode,
}

type RpcError<E> = RPCError<MemberId, PeerNode, E>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerConnection;

    async fn new_client(&mut self, target: MemberId, node: &PeerNode) -> PeerConnection {
        PeerConnection {
            client: self.peers.clone(),
            log: self.log.clone(),
            facts: self.facts.clone(),
            contact: self.contact.clone(),
            target,
            node: node.clone(),
        }
    }
}

impl PeerConnection {
    async fn call<Q, T, E>(&self, request: Q, option: &RPCOption) -> Result<T, RpcError<E>>
    where
        Q: PeerRequest<Answer = Result<T, E>>,
        E: std::error::Error,
    {
        let deadline = option.hard_ttl();
        let answer = self
            .client
            .call(self.target, &self.node.address, request, deadline);
        self.heard(answer).await
    }

    async fn heard<T, E: std::error::Error>(
        &self,
        answer: impl Future<Output = Result<Result<T, E>, CallError>>,
    ) -> Result<T, RpcError<E>> {
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(RPCError::RemoteError(RemoteError::new_with_node(
                self.target,
                self.node.clone(),
                error,
            ))),
            // Only this makes openraft pause. It repeats after any other error at once, for ever:
            // a peer behind something that accepts and closes would keep a processor busy.
            Err(error) => Err(RPCError::Unreachable(Unreachable::new(&error))),
        }
    }
}

impl RaftNetwork<TypeConfig> for PeerConnection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<MemberId>, RpcError<RaftError<MemberId>>> {
        if let Some(committed) = rpc.leader_commit {
            let durable = self.log.reaches(committed.index).await;
            durable.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
            // Before anybody can hear it.
            self.facts.committed(committed.index);
        }
        let sent = Instant::now();
        let answer = self
            .client
            .write(self.target, &self.node.address, rpc, option.hard_ttl());
        let answer = self.heard(answer).await?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.contact.accepted(self.target, sent);
        }
        Ok(answer)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<MemberId>,
        RpcError<RaftError<MemberId, InstallSnapshotError>>,
    > {
        self.call(rpc, &option).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<MemberId>,
        option: RPCOption,
    ) -> Result<VoteResponse<MemberId>, RpcError<RaftError<MemberId>>> {
        self.call(rpc, &option).await
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
