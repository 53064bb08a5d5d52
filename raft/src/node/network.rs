//! Implements openraft's network traits over [`PeerClient`].

use openraft::error::{
    Fatal, InstallSnapshotError, RPCError, RaftError, RemoteError, ReplicationClosed,
    StreamingError, Unreachable,
};
use openraft::network::snapshot_transport::{Chunked, SnapshotTransport};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    SnapshotResponse, VoteRequest, VoteResponse,
};
use raftlookupd_storage::registration::MemberId;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster::quorum_contact::QuorumContact;
use crate::log::durable_index::DurableIndex;
use crate::log::log_facts::LogFacts;
use crate::node::append_calls::AppendCalls;
use crate::node::heartbeats::Caller;
use crate::peer::client::PeerClient;
use crate::peer::lineage::Promises;
use crate::peer::message::Call;
use crate::peer::speakers::Speakers;
use crate::types::{LogId, PeerNode, Snapshot, TypeConfig, Vote};

/// Pause of replication after a peer could not be reached.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long a follower may take over an AppendEntries, in heartbeat intervals: for a slow disk, or
/// a link across half the world. One that hangs is dialled again after that.
const APPEND_INTERVALS: u32 = 10;

/// The same for a heartbeat, which needs no disk.
const HEARTBEAT_INTERVALS: u32 = 5;

/// openraft drops a call at its deadline; we give it up a little earlier, so that it counts as lost.
const MARGIN: Duration = Duration::from_millis(2);

/// Between two lines on how far a snapshot has come.
const PROGRESS: Duration = Duration::from_secs(2);

/// Makes connections to peers; cheap, since openraft asks for one per barrier and peer.
pub(crate) struct Network {
    /// Makes the calls.
    pub(crate) peers: PeerClient,
    /// What may be announced as committed.
    pub(crate) log: DurableIndex,
    /// What was announced as committed.
    pub(crate) facts: Arc<LogFacts>,
    /// When members accepted this one as their leader.
    pub(crate) contact: Arc<QuorumContact>,
    /// Between two heartbeats.
    pub(crate) heartbeat_interval: Duration,
    /// What the peers have promised.
    pub(crate) speakers: Arc<Speakers>,
}

/// Openraft's view of one peer.
pub(crate) struct PeerConnection {
    client: PeerClient,
    log: DurableIndex,
    facts: Arc<LogFacts>,
    speakers: Arc<Speakers>,
    target: MemberId,
    node: PeerNode,
    /// Never locked: openraft asks for connections that threads may share, and shares none.
    appends: Mutex<AppendCalls<AppendError>>,
    sending: Option<Sending>,
}

type AppendError = RpcError<RaftError<MemberId>>;

/// A snapshot on its way to the peer.
struct Sending {
    bytes: u64,
    begun: Instant,
    logged: Instant,
}

impl Sending {
    fn begin(bytes: u64, peer: &str) -> Self {
        let now = Instant::now();
        tracing::info!(peer, bytes, "sending a snapshot");
        Sending {
            bytes,
            begun: now,
            logged: now,
        }
    }

    /// So much of it has arrived.
    fn arrived(&mut self, arrived: u64, peer: &str) {
        let bytes = self.bytes;
        if arrived >= bytes {
            let took_ms = self.begun.elapsed().as_millis();
            tracing::info!(peer, bytes, took_ms, "snapshot sent");
        } else if self.logged.elapsed() > PROGRESS {
            self.logged = Instant::now();
            let percent = arrived.saturating_mul(100) / bytes;
            tracing::info!(peer, bytes, percent, "sending a snapshot");
        }
    }
}

type RpcError<E> = RPCError<MemberId, PeerNode, E>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerConnection;

    async fn new_client(&mut self, target: MemberId, node: &PeerNode) -> PeerConnection {
        let appends = self.appending(target, node);
        PeerConnection {
            client: self.peers.clone(),
            log: self.log.clone(),
            facts: self.facts.clone(),
            speakers: self.speakers.clone(),
            target,
            node: node.clone(),
            appends: Mutex::new(AppendCalls::new(appends)),
            sending: None,
        }
    }
}

impl PeerConnection {
    async fn call<Q, T, E>(&self, request: Q, option: &RPCOption) -> Result<T, RpcError<E>>
    where
        Q: Call<Answer = Result<T, E>>,
        E: std::error::Error,
    {
        let deadline = option.hard_ttl().saturating_sub(MARGIN);
        call(&self.client, self.target, &self.node, request, deadline).await
    }
}

impl Network {
    /// Makes AppendEntries calls that outlive openraft's own deadline.
    fn appending(&self, target: MemberId, node: &PeerNode) -> Arc<Caller<AppendError>> {
        let (client, contact) = (self.peers.clone(), self.contact.clone());
        let speakers = self.speakers.clone();
        let (node, interval) = (node.clone(), self.heartbeat_interval);
        Arc::new(move |request: AppendEntriesRequest<TypeConfig>| {
            let (client, node, contact) = (client.clone(), node.clone(), contact.clone());
            let speakers = speakers.clone();
            let intervals = match request.entries.is_empty() {
                true => HEARTBEAT_INTERVALS,
                false => APPEND_INTERVALS,
            };
            let deadline = interval.saturating_mul(intervals);
            Box::pin(async move {
                let sent = Instant::now();
                let term = request.vote.leader_id.term;
                let last = request.entries.last().map(|entry| entry.log_id);
                let last = last.or(request.prev_log_id);
                let answer = call(&client, target, &node, request, deadline).await?;
                if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                    contact.accepted(target, sent);
                    let next = acknowledged(&answer, last);
                    speakers.promised(target, Promises { term, next });
                }
                Ok(answer)
            })
        })
    }
}

/// The index behind the last entry that a follower says it has; 0 if it says nothing.
fn acknowledged(answer: &AppendEntriesResponse<MemberId>, sent: Option<LogId>) -> u64 {
    let last = match answer {
        AppendEntriesResponse::Success => sent,
        AppendEntriesResponse::PartialSuccess(last) => *last,
        AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => None,
    };
    last.map_or(0, |last| last.index + 1)
}

async fn call<Q, T, E>(
    client: &PeerClient,
    target: MemberId,
    node: &PeerNode,
    request: Q,
    deadline: Duration,
) -> Result<T, RpcError<E>>
where
    Q: Call<Answer = Result<T, E>>,
    E: std::error::Error,
{
    match client.call(target, node, request, deadline).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(RPCError::RemoteError(RemoteError::new_with_node(
            target,
            node.clone(),
            error,
        ))),
        // Only this makes openraft pause. After any other error it retries at once, indefinitely:
        // a proxy that accepts and closes would keep a processor busy.
        Err(error) => Err(RPCError::Unreachable(Unreachable::new(&error))),
    }
}

impl RaftNetwork<TypeConfig> for PeerConnection {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<MemberId>, RpcError<RaftError<MemberId>>> {
        if let Some(committed) = rpc.leader_commit {
            let durable = self.log.reaches(committed.index).await;
            durable.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
            // Before any follower can act on it.
            self.facts.committed(committed.index);
        }
        let appends = self.appends.get_mut();
        let appends = appends.unwrap_or_else(PoisonError::into_inner);
        appends.append(rpc).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<MemberId>,
        RpcError<RaftError<MemberId, InstallSnapshotError>>,
    > {
        let arrived = rpc.offset.saturating_add(rpc.data.len() as u64);
        let answer = self.call(rpc, &option).await?;
        if let Some(sending) = &mut self.sending {
            sending.arrived(arrived, &self.node.name);
        }
        Ok(answer)
    }

    /// In pieces, each an `install_snapshot`.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<MemberId>, StreamingError<TypeConfig, Fatal<MemberId>>> {
        let measured = snapshot.snapshot.metadata().await;
        let bytes = measured.map_or(0, |measured| measured.len());
        self.sending = Some(Sending::begin(bytes, &self.node.name));
        Chunked::send_snapshot(self, vote, snapshot, cancel, option).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<MemberId>,
        option: RPCOption,
    ) -> Result<VoteResponse<MemberId>, RpcError<RaftError<MemberId>>> {
        let term = rpc.vote.leader_id.term;
        let answer = self.call(rpc, &option).await?;
        if answer.vote_granted {
            let promised = Promises { term, next: 0 };
            self.speakers.promised(self.target, promised);
        }
        Ok(answer)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
