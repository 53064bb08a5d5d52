//! Answers the requests of peers: hands them to Raft, the proposer or the membership.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest,
};
use raftlookupd_storage::registration::MemberId;

use crate::cluster::leader_contact::{Goodbye, LeaderContact};
use crate::cluster::view::View;
use crate::log::log_store::LogStore;
use crate::log::plausibility::{Implausible, check_entries, check_snapshot, check_vote};
use crate::log::registry_state::RegistryState;
use crate::members::membership::Membership;
use crate::peer::handshake::{Introduction, Me, Party, Place, Refusal, Sender};
use crate::peer::lineage::{Known, Promises};
use crate::peer::message::{
    AppendAnswer, Declined, FormedCluster, Hello, HelloAnswer, LeaderLeaves, LeadersWord, Promote,
    ReadIndex, ReadPoint, Reply, Request, Response, SnapshotAnswer, SubmitBatch, VoteAnswer,
};
use crate::peer::rate_limit::RateLimit;
use crate::peer::server::Service;
use crate::peer::speakers::Speakers;
use crate::read::authority::ReadAuthority;
use crate::read::barrier::Barrier;
use crate::read::clock::ClusterClock;
use crate::read::round::ROUND;
use crate::types::{LeaderId, PeerNode, Raft, TypeConfig, Vote};
use crate::watch::liveness::KeepAlives;
use crate::write::proposer::Proposer;
use crate::write::space::{DiskSpace, Level};

/// What answers once this member has loaded.
pub(crate) struct Running {
    pub(crate) cluster: u128,
    pub(crate) view: View,
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) state: Arc<RegistryState>,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) leader_contact: Arc<LeaderContact>,
    pub(crate) keep_alives: Arc<KeepAlives>,
    pub(crate) clock: Arc<ClusterClock>,
    pub(crate) barrier: Arc<Barrier>,
    pub(crate) read_authority: ReadAuthority,
    pub(crate) space: Arc<DiskSpace>,
}

/// The answers of one member. Until [`PeerService::run_as`] is called it only says who it is.
pub(crate) struct PeerService {
    me: Arc<Me>,
    hello: Hello,
    speakers: Arc<Speakers>,
    running: OnceLock<Running>,
    refusals: RateLimit,
}

impl PeerService {
    pub(crate) fn new(me: Arc<Me>, hello: Hello, speakers: Arc<Speakers>) -> Self {
        PeerService {
            me,
            hello,
            speakers,
            running: OnceLock::new(),
            refusals: RateLimit::default(),
        }
    }

    /// From now on all requests are answered. Only the first call counts.
    pub(crate) fn run_as(&self, running: Running) {
        let state = running.state.clone();
        self.speakers.ask_registry(move |id| {
            state.read(|db| db.member(id).map_or(0, |row| row.incarnation))
        });
        let _ = self.running.set(running);
    }

    /// A member, once this one has loaded.
    fn node(&self, id: MemberId) -> Option<PeerNode> {
        self.running.get()?.view.node(id)
    }

    /// Whether the other side runs on the same data path, or on a copy of it.
    fn is_twin(&self, other: &Party) -> bool {
        let me = self.me.party();
        me.place.is_some()
            && (other.place, other.instance) == (me.place, me.instance)
            && other.start != me.start
    }

    /// Refuses a process that says that it is this member.
    fn refuse_twin(&self, id: MemberId) -> Refusal {
        let own = |(name, _): &&(String, String)| *name == self.hello.name;
        let listed = || {
            self.hello
                .initial
                .iter()
                .find(own)
                .map(|(_, own)| own.clone())
        };
        let address = self.node(id).map(|node| node.address).or_else(listed);
        Refusal::Copy {
            id,
            address: address.unwrap_or_else(|| "the address that was dialled".into()),
        }
    }

    /// Who we are, and our cluster if there is one.
    fn hello(&self) -> HelloAnswer {
        let formed = self.running.get().and_then(|running| {
            let members: Vec<_> = running.view.nodes().into_iter().collect();
            (!members.is_empty()).then_some(FormedCluster {
                cluster: running.cluster,
                members,
                leader: running.view.leader(),
            })
        });
        HelloAnswer {
            me: self.hello.clone(),
            belongs_to: self.me.place().map(|place| place.cluster),
            votes: self.running.get().is_some(),
            formed,
        }
    }

    fn running(&self) -> Reply<&Running> {
        self.running.get().ok_or(Declined::Loading)
    }

    /// One line for a message that no correct member sends.
    fn refuse(&self, running: &Running, from: MemberId, implausible: Implausible) -> Declined {
        let reason = implausible.to_string();
        if self.refusals.allows(&from.to_string(), Instant::now()) {
            let peer = running.name(from);
            tracing::error!(peer, reason, "refused a message of a peer");
        }
        Declined::Refused(reason)
    }

    async fn answer_member(&self, from: MemberId, request: Request) -> Reply<Response> {
        let running = self.running()?;
        if running.view.knows(from) {
            running.keep_alives.received(from);
        }
        let refuse = |implausible| self.refuse(running, from, implausible);
        Ok(match request {
            Request::Append(request) => {
                running.check(from, &request.vote).map_err(refuse)?;
                running.check_entries(&request).map_err(refuse)?;
                if !request.entries.is_empty() {
                    running.check_space()?;
                }
                // A leader has on its disk what it calls committed.
                let committed = request.leader_commit.map_or(0, |last| last.index + 1);
                self.note_promise(from, &request.vote, committed);
                Response::Append(running.append(request).await?)
            }
            Request::Submit(SubmitBatch(batch)) => {
                if batch.member != from {
                    return Err(Declined::Refused("the batch is another member's".into()));
                }
                if !running.space.admits(&batch.events) {
                    return Err(Declined::DiskFull);
                }
                Response::Submit(running.proposer.submit(batch).await?)
            }
            Request::Snapshot(request) => {
                running.check(from, &request.vote).map_err(refuse)?;
                running.check_space()?;
                let applied = running.state.applied_log_id();
                check_snapshot(&request.meta, applied).map_err(refuse)?;
                Response::Snapshot(running.snapshot(from, request).await)
            }
            Request::Vote(request) => {
                running.check(from, &request.vote).map_err(refuse)?;
                // The candidate has voted for itself.
                self.note_promise(from, &request.vote, 0);
                Response::Vote(running.vote(request).await)
            }
            Request::ReadIndex(ReadIndex { leader }) => {
                Response::ReadIndex(running.read_index(from, leader).await)
            }
            Request::Following(following) => {
                Response::Following(running.read_authority.follows(following.leader))
            }
            Request::KeepAlive(_) => Response::KeepAlive(running.word()?),
            Request::LeaderLeaves(LeaderLeaves { heir }) => {
                let leader = from;
                running
                    .leader_contact
                    .hear_goodbye(Goodbye { leader, heir });
                Response::LeaderLeaves(())
            }
            Request::Change(change) => {
                Response::Change(running.membership.change_for_operator(change).await?)
            }
            Request::Progress(_) => Response::Progress(running.membership.progress()?),
            Request::Removed(_) => {
                running.leader_contact.hear_removal();
                Response::Removed(())
            }
            Request::Promote(promote) => {
                Response::Promote(running.membership.promote(promote).await?)
            }
            Request::Hello(_) | Request::Join(_) => return self.answer_guest(request).await,
        })
    }

    async fn check_moved(&self, promote: &Promote) -> Reply<()> {
        let running = self.running()?;
        let id = promote.id;
        let unknown = || Declined::Refused(format!("member {id} is not a member here"));
        let node = running.view.node(id).ok_or_else(unknown)?;
        let place = Place {
            cluster: running.cluster,
            id,
        };
        let moved = self.speakers.check_moved(place, &node, &promote.address);
        moved.await.map_err(Declined::Refused)
    }

    fn note_promise(&self, from: MemberId, vote: &Vote, next: u64) {
        let term = vote.leader_id.term;
        self.speakers.promised(from, Promises { term, next });
    }

    async fn answer_guest(&self, request: Request) -> Reply<Response> {
        match request {
            Request::Hello(_) => Ok(Response::Hello(self.hello())),
            Request::Join(join) => {
                let admitted = self.running()?.membership.admit(join.node).await?;
                Ok(Response::Join(admitted))
            }
            // Its connections as a member are refused until its new address is recorded.
            Request::Promote(promote) => {
                self.check_moved(&promote).await?;
                let running = self.running()?;
                running.membership.promote(promote).await?;
                Ok(Response::Promote(()))
            }
            _ => Err(Declined::Refused("only members may ask that".into())),
        }
    }
}

impl Service for PeerService {
    fn introduce(&self) -> Party {
        self.me.party()
    }

    async fn admit(&self, introduction: &Introduction) -> Result<Sender, Refusal> {
        let from = &introduction.from;
        if let Some(place) = from.place.filter(|_| self.is_twin(from)) {
            return Err(self.refuse_twin(place.id));
        }
        let known = |id| self.node(id).map(|node| node.instance);
        let sender = self.me.admit(introduction, known)?;
        if let Sender::Member { id, .. } = sender {
            let recorded = self.node(id).map(|node| node.address);
            self.speakers.check(id, from, recorded).await?;
        }
        Ok(sender)
    }

    fn known(&self, introduction: &Introduction) -> Option<Known> {
        let (ours, theirs) = (self.me.place()?, introduction.from.place?);
        let same = ours.cluster == theirs.cluster;
        same.then(|| self.speakers.known(theirs.id)).flatten()
    }

    fn is_current(&self, sender: Sender) -> bool {
        match sender {
            // Before it is known as a member, as while this one loads, there may be no address to ask at.
            Sender::Member { id, start, known } => {
                self.speakers.speaks(id, start) || !(known || self.node(id).is_some())
            }
            Sender::Guest => true,
        }
    }

    async fn answer(&self, from: Sender, request: Request) -> Response {
        let answered = match from {
            Sender::Member { id, .. } => self.answer_member(id, request).await,
            Sender::Guest => self.answer_guest(request).await,
        };
        answered.unwrap_or_else(Response::Declined)
    }
}

impl Running {
    /// Declines what would be appended if there is no space for it.
    fn check_space(&self) -> Reply<()> {
        match self.space.level() {
            Level::Enough | Level::Low => Ok(()),
            Level::Exhausted => Err(Declined::DiskFull),
        }
    }

    /// A peer as the log calls it; its id if it is no member here.
    fn name(&self, peer: MemberId) -> String {
        let node = self.view.node(peer);
        node.map_or_else(|| peer.to_string(), |node| node.name)
    }

    /// Checks what a leader or candidate goes by.
    fn check(&self, from: MemberId, vote: &Vote) -> Result<(), Implausible> {
        check_vote(vote, from, self.view.term())
    }

    fn check_entries(&self, request: &AppendEntriesRequest<TypeConfig>) -> Result<(), Implausible> {
        check_entries(request, self.state.applied_log_id(), |index| {
            self.log.log_id_at(index)
        })
    }

    async fn append(&self, request: AppendEntriesRequest<TypeConfig>) -> Reply<AppendAnswer> {
        let last = request.entries.last().map(|entry| entry.log_id);
        let last = last.or(request.prev_log_id);
        let answer = self.raft.append_entries(request).await;
        if !matches!(answer, Ok(AppendEntriesResponse::HigherVote(_)) | Err(_)) {
            self.leader_contact.hear();
        }
        if let Ok(AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)) =
            answer
        {
            // The leader counts what we say we have.
            if let Some(last) = last
                && let Err(error) = self.log.durable_index().reaches(last.index).await
            {
                return Err(Declined::Refused(error.to_string()));
            }
        }
        Ok(answer)
    }

    async fn snapshot(
        &self,
        from: MemberId,
        request: InstallSnapshotRequest<TypeConfig>,
    ) -> SnapshotAnswer {
        let vote = request.vote;
        let (offset, bytes, last) = (request.offset, request.data.len(), request.done);
        if offset == 0 {
            let peer = self.name(from);
            tracing::info!(peer, "receiving a snapshot");
        }
        if last {
            let (peer, bytes) = (self.name(from), offset.saturating_add(bytes as u64));
            tracing::info!(peer, bytes, "snapshot received, installing it");
        }
        let answer = self.raft.install_snapshot(request).await;
        // What is refused is answered with another vote.
        if answer.as_ref().is_ok_and(|answer| answer.vote == vote) {
            self.leader_contact.hear();
        }
        answer
    }

    async fn vote(&self, request: VoteRequest<MemberId>) -> VoteAnswer {
        self.raft.vote(request).await
    }

    async fn read_index(&self, from: MemberId, leader: LeaderId) -> Option<ReadPoint> {
        let authority = &self.read_authority;
        // Taken first: who is asked afterwards confirms it.
        let index = authority.index(leader)?;
        let enough = authority.is_quorum(&BTreeSet::from([self.view.me(), from]))
            || self.barrier.wait(ROUND).await.is_ok();
        enough.then(|| ReadPoint {
            index,
            time: self.clock.now(),
        })
    }

    /// What it has to say as the leader.
    fn word(&self) -> Reply<LeadersWord> {
        let authority = &self.read_authority;
        let leader = authority.leader().ok_or(Declined::NotLeader)?;
        let index = authority.index(leader).ok_or(Declined::NotLeader)?;
        let without_quorum = self.view.quorum_age();
        Ok(LeadersWord {
            time: self.clock.now(),
            index,
            without_quorum: without_quorum.unwrap_or(Duration::MAX),
        })
    }
}
