//! Incoming peer calls: checks whom they are meant for, then hands them to Raft, the proposer
//! or the membership.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use openraft::raft::{InstallSnapshotRequest, VoteRequest};
use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::registration::MemberId;

use crate::cluster::leader_contact::LeaderContact;
use crate::cluster::quorum_contact::QuorumContact;
use crate::log::durable_index::DurableIndex;
use crate::members::membership::Membership;
use crate::peer::message::{
    Addressed, Declined, FormedCluster, Hello, HelloAnswer, Join, KeepAlive, LeaderLeaves,
    LeadersWord, PeerRequest, Promote, Reply,
};
use crate::read::authority::ReadAuthority;
use crate::read::barrier::Barrier;
use crate::read::clock::ClusterClock;
use crate::types::{Raft, TypeConfig};
use crate::watch::liveness::KeepAlives;
use crate::write::proposer::Proposer;

/// Several times the longest honest message: a piece of a snapshot.
const MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// What answers once this member belongs to a cluster.
pub(crate) struct Running {
    pub(crate) cluster: u128,
    pub(crate) id: MemberId,
    pub(crate) raft: Raft,
    pub(crate) log: DurableIndex,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) leader_contact: Arc<LeaderContact>,
    pub(crate) quorum_contact: Arc<QuorumContact>,
    pub(crate) keep_alives: Arc<KeepAlives>,
    pub(crate) clock: Arc<ClusterClock>,
    pub(crate) barrier: Arc<Barrier>,
    pub(crate) read_authority: ReadAuthority,
}

impl Running {
    /// What it has to say as the leader.
    fn word(&self) -> Reply<LeadersWord> {
        let authority = &self.read_authority;
        let leader = authority.leader().ok_or(Declined::NotLeader)?;
        let index = authority.index(leader).ok_or(Declined::NotLeader)?;
        let metrics = self.raft.metrics();
        let without_quorum = self.quorum_contact.age(self.id, &metrics.borrow());
        Ok(LeadersWord {
            time: self.clock.now(),
            index,
            without_quorum: without_quorum.unwrap_or(Duration::MAX),
        })
    }
}

/// The peer interface of one member.
pub(crate) struct PeerServer {
    hello: Hello,
    running: OnceLock<Running>,
}

impl PeerServer {
    /// A server that only answers [`Hello`] until [`PeerServer::run_as`] is called.
    pub(crate) fn new(hello: Hello) -> Arc<Self> {
        Arc::new(PeerServer {
            hello,
            running: OnceLock::new(),
        })
    }

    /// From now on all calls are answered. Only the first call counts.
    pub(crate) fn run_as(&self, running: Running) {
        let _ = self.running.set(running);
    }

    /// The routes of the peer interface.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route(VoteRequest::<MemberId>::PATH, post(vote))
            .route(InstallSnapshotRequest::<TypeConfig>::PATH, post(snapshot))
            .route(KeepAlive::PATH, post(keep_alive))
            .route(LeaderLeaves::PATH, post(leader_leaves))
            .route(Hello::PATH, post(hello))
            .route(Join::PATH, post(join))
            .route(Promote::PATH, post(promote))
            .layer(DefaultBodyLimit::max(MESSAGE_BYTES))
            .with_state(self)
    }

    /// Who we are, and our cluster if there is one.
    fn introduce(&self) -> HelloAnswer {
        let formed = self.running.get().and_then(|running| {
            let metrics = running.raft.metrics().borrow().clone();
            let members = metrics.membership_config.nodes();
            let members: Vec<_> = members.map(|(id, node)| (*id, node.clone())).collect();
            (!members.is_empty()).then_some(FormedCluster {
                cluster: running.cluster,
                members,
                leader: metrics.current_leader,
            })
        });
        HelloAnswer {
            me: self.hello.clone(),
            formed,
        }
    }

    fn running(&self) -> Result<&Running, Declined> {
        self.running.get().ok_or(Declined::Loading)
    }

    /// The message and who answers it, if it is meant for us.
    fn receive<Q: PeerRequest>(&self, body: &Bytes) -> Result<Reply<(&Running, Q)>, BadMessage> {
        Ok(self.addressee(parse(body)?))
    }

    /// The same of a message that did not come by HTTP.
    pub(crate) fn addressee<T>(&self, addressed: Addressed<T>) -> Reply<(&Running, T)> {
        let running = self.running()?;
        if addressed.cluster != running.cluster {
            tracing::warn!(
                from = addressed.from,
                cluster = %format_args!("{:032x}", addressed.cluster),
                "refused a message of another cluster"
            );
            return Err(Declined::ForeignCluster {
                cluster: running.cluster,
            });
        }
        if addressed.to != running.id {
            return Err(Declined::OtherMember { id: running.id });
        }
        Ok((running, addressed.message))
    }
}

type Peer = State<Arc<PeerServer>>;
type Answer = Result<Response, BadMessage>;

/// What was posted is not a message of ours: garbage, or of a version that we do not know.
struct BadMessage(String);

impl IntoResponse for BadMessage {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, self.0).into_response()
    }
}

async fn vote(State(server): Peer, body: Bytes) -> Answer {
    type Request = VoteRequest<MemberId>;
    match server.receive::<Request>(&body)? {
        Ok((running, request)) => reply::<Request>(Ok(running.raft.vote(request).await)),
        Err(declined) => reply::<Request>(Err(declined)),
    }
}

async fn snapshot(State(server): Peer, body: Bytes) -> Answer {
    type Request = InstallSnapshotRequest<TypeConfig>;
    let (running, request) = match server.receive::<Request>(&body)? {
        Ok(received) => received,
        Err(declined) => return reply::<Request>(Err(declined)),
    };
    let vote = request.vote;
    let answer = running.raft.install_snapshot(request).await;
    // What is refused is answered with another vote.
    if answer.as_ref().is_ok_and(|answer| answer.vote == vote) {
        running.leader_contact.hear();
    }
    reply::<Request>(Ok(answer))
}

async fn keep_alive(State(server): Peer, body: Bytes) -> Answer {
    let answer = server.receive::<KeepAlive>(&body)?;
    let answer = answer.and_then(|(running, KeepAlive { member })| {
        running.keep_alives.received(member);
        running.word()
    });
    reply::<KeepAlive>(answer)
}

async fn leader_leaves(State(server): Peer, body: Bytes) -> Answer {
    let answer = server
        .receive::<LeaderLeaves>(&body)?
        .map(|(running, LeaderLeaves { leader })| running.leader_contact.hear_goodbye(leader));
    reply::<LeaderLeaves>(answer)
}

async fn hello(State(server): Peer, body: Bytes) -> Answer {
    let _: Hello = parse(&body)?;
    reply::<Hello>(Ok(server.introduce()))
}

async fn join(State(server): Peer, body: Bytes) -> Answer {
    let Join { node } = parse(&body)?;
    let answer = match server.running() {
        Ok(running) => running.membership.admit(node).await,
        Err(declined) => Err(declined),
    };
    reply::<Join>(answer)
}

async fn promote(State(server): Peer, body: Bytes) -> Answer {
    let answer = match server.receive::<Promote>(&body)? {
        Ok((running, promote)) => running.membership.promote(promote).await,
        Err(declined) => Err(declined),
    };
    reply::<Promote>(answer)
}

fn parse<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, BadMessage> {
    decode("a peer message", body).map_err(|error| BadMessage(error.to_string()))
}

fn reply<Q: PeerRequest>(answer: Reply<Q::Answer>) -> Answer {
    let encoded = encode(Q::PATH, &answer);
    let bytes = encoded.map_err(|error| BadMessage(error.to_string()))?;
    Ok(bytes.into_response())
}
