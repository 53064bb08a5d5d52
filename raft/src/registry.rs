//! What `src` calls: write, barrier, read, status.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::event::Event;
use raftlookupd_storage::log_table::LogTable;
use raftlookupd_storage::registration::{MemberId, UnixMillis};
use raftlookupd_storage::registration_db::RegistrationDb;
use raftlookupd_storage::store::Store;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::cluster::forming;
use crate::cluster::identity::{IdentityFile, Incarnation, OwnMembership};
use crate::cluster::leader_contact::LeaderContact;
use crate::cluster::quorum_contact::QuorumContact;
use crate::config::{Config, Forming, LONGEST_LOG};
use crate::error::{Error, Result};
use crate::failure::{self, Ending, Failure};
use crate::log::compaction::{compact_log, watch_store};
use crate::log::log_store::LogStore;
use crate::log::registry_state::RegistryState;
use crate::log::state_machine::StateMachine;
use crate::members::membership::Membership;
use crate::members::placement::take_place;
use crate::members::removal::watch_removal;
use crate::node::network::Network;
use crate::node::peer_service::{PeerService, Running};
use crate::node::runtime::RaftRuntime;
use crate::owner::SharedOwner;
use crate::peer::client::PeerClient;
use crate::peer::handshake::Me;
use crate::peer::message::{Hello, LeaderLeaves, Promote};
use crate::peer::server::Server;
use crate::read::authority::ReadAuthority;
use crate::read::barrier::Barrier;
use crate::read::clock::ClusterClock;
use crate::read::round::ReadRound;
use crate::status::{MemberStatus, Status};
use crate::types::{PeerNode, Raft, RaftMetrics};
use crate::watch::election::{Timing, watch_leader};
use crate::watch::liveness::{KeepAlives, Liveness};
use crate::watch::sweeping::{expire, sweep};
use crate::watch::transitions::log_transitions;
use crate::write::batcher::{self, Batcher};
use crate::write::leader_link::LeaderLink;
use crate::write::proposer::Proposer;
use crate::write::requests::Pending;

/// How long a stopping leader waits for the others to take note.
const GOODBYE: Duration = Duration::from_millis(200);

/// One part in so many of the connections to the peer port is for those that are not known as
/// members; a member needs a handful.
const GUESTS: usize = 4;

/// A running member's share of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
    runtime: Arc<RaftRuntime>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Registry")
            .field("own", &self.inner.own)
            .finish_non_exhaustive()
    }
}

struct Inner {
    name: String,
    own: OwnMembership,
    raft: Raft,
    state: Arc<RegistryState>,
    batcher: Arc<Batcher>,
    barrier: Arc<Barrier>,
    peers: PeerClient,
    leader_contact: Arc<LeaderContact>,
    quorum_contact: Arc<QuorumContact>,
    clock: Arc<ClusterClock>,
    failure: Failure,
    close_peers: watch::Sender<bool>,
    log: LogTable,
    store: Mutex<Option<Store>>,
    tasks: AbortHandle,
}

impl Registry {
    /// Opens the data path, forms the cluster or finds it again, and loads the state. Waits for
    /// the other members for as long as it takes; dropping the future gives up. What the sessions
    /// of this member need is proposed for their owner.
    ///
    /// # Errors
    /// [`Error::Storage`] if the data path cannot be used, [`Error::Membership`] if the cluster
    /// cannot be formed as configured, [`Error::Fatal`] if Raft does not start.
    pub async fn start(config: Config, owner: SharedOwner) -> Result<Registry> {
        let runtime = RaftRuntime::start()?;
        let handle = runtime.handle()?;
        let inner = RaftRuntime::run(&handle, Inner::start(config, owner)).await??;
        Ok(Registry {
            inner: Arc::new(inner),
            runtime: Arc::new(runtime),
        })
    }

    /// This member's Raft node id.
    pub fn member_id(&self) -> MemberId {
        self.inner.own.id
    }

    /// Queues an event that is asked for by itself, as over HTTP; never waits. It is repeated until
    /// it is committed, whether or not the answer is awaited.
    ///
    /// # Errors
    /// [`Error::QueueFull`] or [`Error::Stopping`]; the event is not queued then.
    pub fn submit(&self, event: Event) -> Result<Pending> {
        self.inner.batcher.submit(event)
    }

    /// Submits an event and waits for its fate.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] if it was not proposed, [`Error::OutcomeUnknown`] if the deadline
    /// passed, [`Error::Refused`] if the registry said no.
    pub async fn write(&self, event: Event, deadline: Duration) -> Result<()> {
        let started = Instant::now();
        // Without a quorum there is no need to try.
        self.barrier(deadline).await?;
        let mut pending = self.submit(event)?;
        let left = deadline.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, &mut pending).await {
            Ok(fate) => fate,
            Err(_) if pending.withdraw() => Err(Error::NoQuorum),
            Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    /// After `Ok`, [`read`](Self::read) shows everything that was acknowledged by any member
    /// before this call. Callers share rounds.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] after the deadline, at once if there has been none for seconds.
    pub async fn barrier(&self, deadline: Duration) -> Result<()> {
        self.inner.barrier.wait(deadline).await
    }

    /// Reads the registry as it is at this member. The query has to be short: it holds up the
    /// state machine, and with it all other readers.
    pub fn read<T>(&self, query: impl FnOnce(&RegistrationDb) -> T) -> T {
        self.inner.state.read(query)
    }

    /// The cluster's time, in milliseconds since the Unix epoch: what stamps events, and what
    /// tombstones end by. After a [`barrier`](Self::barrier) it is the leader's.
    pub fn now(&self) -> UnixMillis {
        self.inner.clock.now()
    }

    /// Whether this member knows of a leader.
    pub fn has_leader(&self) -> bool {
        self.inner.raft.metrics().borrow().current_leader.is_some()
    }

    /// For how long this member may have missed changes: the time since it last showed all that a
    /// leader with a quorum called committed or, leading itself, heard a quorum.
    pub fn staleness(&self) -> Duration {
        let metrics = self.inner.metrics();
        let confirmed = self.inner.barrier.confirmed();
        if metrics.current_leader == Some(self.inner.own.id) {
            let age = self.inner.quorum_contact.age(self.inner.own.id, &metrics);
            return age.unwrap_or_else(|| confirmed.elapsed());
        }
        let current = self.inner.leader_contact.current();
        let current = current.map_or(confirmed, |current| current.max(confirmed));
        current.elapsed()
    }

    /// What an operator wants to know.
    pub fn status(&self) -> Status {
        let metrics = self.inner.metrics();
        let membership = metrics.membership_config.membership();
        let voters: Vec<MemberId> = membership.voter_ids().collect();
        let contacts = self.inner.peers.contacts();
        let members = membership.nodes().map(|(id, node)| MemberStatus {
            id: *id,
            name: node.name.clone(),
            peer_address: node.address.clone(),
            voter: voters.contains(id),
            last_contact: contacts
                .get(id)
                .and_then(|contact| contact.answered)
                .map(|answered| answered.elapsed()),
        });
        let (pending_events, committed_events) = self.inner.batcher.counts();
        let applied = self.inner.state.point();
        Status {
            cluster_id: format!("{:032x}", self.inner.own.cluster),
            id: self.inner.own.id,
            name: self.inner.name.clone(),
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: applied.log_id.map_or(0, |id| id.index),
            snapshot_index: metrics.snapshot.map_or(0, |id| id.index),
            purged_index: metrics.purged.map_or(0, |id| id.index),
            state_hash: format!("{:032x}", applied.state_hash),
            pending_events,
            committed_events,
            log_bytes: self.inner.log.live_bytes(),
            members: members.collect(),
        }
    }

    /// Resolves when the member cannot go on: [`Error::StorageFailed`], [`Error::Membership`] or
    /// [`Error::Fatal`].
    pub async fn failed(&self) -> Error {
        failure::failed(&self.inner.failure).await
    }

    /// Says goodbye to the others if this member leads, so that they elect a leader sooner;
    /// stops, and closes the store. Events that still wait are left undone.
    pub async fn shutdown(&self) {
        let Ok(handle) = self.runtime.handle() else {
            return;
        };
        let inner = self.inner.clone();
        if let Err(error) = RaftRuntime::run(&handle, async move { inner.stop().await }).await {
            tracing::warn!(%error, "not stopped cleanly; nothing acknowledged is lost");
        }
    }
}

impl Inner {
    async fn start(config: Config, owner: SharedOwner) -> Result<Inner> {
        let raft_config = config.openraft()?;
        let data_path = config.data_path.clone();
        let store = blocking(move || Ok(Store::open(&data_path)?)).await?;
        let (file, mut identity) =
            IdentityFile::open(&config.data_path, &config.name, &config.forming)?;
        let hello = Hello {
            name: identity.name.clone(),
            instance: identity.instance,
            initial: config.forming.initial(),
        };
        let me = Arc::new(Me::new(&identity.name, identity.instance)?);
        if let Some(own) = &identity.membership {
            me.take_place(own.place());
        }
        let peers = PeerClient::new(me.clone());
        let server = Server::new(PeerService::new(me.clone(), hello.clone()));
        let mut tasks = JoinSet::new();
        let (close_peers, closed) = watch::channel(false);
        let listener = into_tokio(config.peer_listener)?;
        let guests = config.most_peer_connections / GUESTS;
        tasks.spawn(server.clone().serve(listener, guests.max(1), closed));

        let own = match identity.membership.clone() {
            Some(own) => own,
            None if store.log().vote()?.is_some() => {
                return Err(Error::Storage(raftlookupd_storage::Error::Corrupt {
                    path: config.data_path,
                    what: "it has a log, but its identity is missing".into(),
                }));
            }
            None => {
                let address = &config.peer_broadcast_address;
                let own = match &config.forming {
                    Forming::Alone => forming::alone(PeerNode {
                        name: hello.name.clone(),
                        address: address.clone(),
                        instance: hello.instance,
                    }),
                    Forming::Initial(_) => forming::with_others(&hello, address, &peers).await?,
                };
                identity.membership = Some(own.clone());
                file.save(&identity)?;
                own
            }
        };
        me.take_place(own.place());

        let log = LogStore::new(store.log())?;
        let facts = log.facts();
        let durable = log.durable_index();
        let (registrations, its_log) = (store.registrations(), log.clone());
        let load = move || Ok(StateMachine::load(registrations, &its_log)?);
        let mut state_machine = blocking(load).await?;
        let state = state_machine.state();
        log.check_reaches(state.applied(), &config.data_path)?;
        let log = log.purged_behind(state.clone());
        let incarnation = Incarnation::of(file, identity);
        let incarnations = incarnation.watch();
        state_machine.serve(own.id, owner.clone(), incarnation);
        let quorum_contact = Arc::new(QuorumContact::default());
        let network = Network {
            peers: peers.clone(),
            log: durable.clone(),
            facts: facts.clone(),
            contact: quorum_contact.clone(),
        };
        let raft = Raft::new(own.id, raft_config, network, log.clone(), state_machine).await;
        let raft = raft.map_err(|error| Error::Fatal(error.to_string()))?;

        let proposer = Proposer::start(raft.clone(), &mut tasks);
        let clock = Arc::new(ClusterClock::starting_at(config.wall_clock));
        let link = LeaderLink::new(own.id, raft.clone(), proposer.clone(), peers.clone());
        let failure = watch::Sender::new(None);
        let read_authority = ReadAuthority {
            me: own.id,
            raft: raft.clone(),
            facts,
            state: state.clone(),
        };
        let rounds = ReadRound::new(read_authority.clone(), clock.clone(), peers.clone());
        let barrier = Barrier::start(rounds, link.clone(), state.clone(), &mut tasks);
        let parts = batcher::Parts {
            member: own.id,
            incarnation: incarnations,
            owner,
            state: state.clone(),
            link,
            barrier: barrier.clone(),
            clock: clock.clone(),
            failure: failure.clone(),
        };
        let batcher = Batcher::start(parts, &mut tasks);
        let membership = Membership::new(
            hello.clone(),
            own.cluster,
            raft.clone(),
            peers.clone(),
            state.clone(),
            proposer.clone(),
        );
        let membership = Arc::new(membership);
        let leader_contact = Arc::new(LeaderContact::default());
        let keep_alives = Arc::new(KeepAlives::default());
        server.service().run_as(Running {
            cluster: own.cluster,
            id: own.id,
            raft: raft.clone(),
            log,
            state: state.clone(),
            proposer: proposer.clone(),
            membership: membership.clone(),
            leader_contact: leader_contact.clone(),
            quorum_contact: quorum_contact.clone(),
            keep_alives: keep_alives.clone(),
            clock: clock.clone(),
            barrier: barrier.clone(),
            read_authority,
        });
        if let Some(founding) = &own.founding {
            forming::initialize(&raft, founding).await?;
        }

        elect_oneself_if_alone(own.id, &raft).await?;

        let timing = Timing {
            heartbeat: config.heartbeat_interval,
            lease: config.election_timeout.end,
        };
        tasks.spawn(watch_leader(
            hello.clone(),
            own.id,
            raft.clone(),
            peers.clone(),
            leader_contact.clone(),
            timing,
        ));
        tasks.spawn(log_transitions(
            own.id,
            raft.clone(),
            config.election_timeout.start,
            failure.clone(),
        ));
        let liveness = Liveness {
            me: own.id,
            raft: raft.clone(),
            peers: peers.clone(),
            state: state.clone(),
            proposer: proposer.clone(),
            batcher: batcher.clone(),
            keep_alives,
            leader_contact: leader_contact.clone(),
            quorum_contact: quorum_contact.clone(),
            clock: clock.clone(),
            timeout: config.member_timeout,
        };
        tasks.spawn(liveness.run());
        tasks.spawn(sweep(own.id, raft.clone(), state.clone(), proposer.clone()));
        tasks.spawn(expire(
            own.id,
            raft.clone(),
            state.clone(),
            clock.clone(),
            proposer,
        ));
        tasks.spawn(compact_log(raft.clone(), store.log(), LONGEST_LOG));
        tasks.spawn(watch_removal(
            hello.clone(),
            own.cluster,
            own.id,
            raft.clone(),
            leader_contact.clone(),
            peers.clone(),
            failure.clone(),
        ));
        tasks.spawn(watch_store(store.log(), failure.clone()));
        let place = Promote {
            id: own.id,
            address: config.peer_broadcast_address,
        };
        let (its_raft, its_peers) = (raft.clone(), peers.clone());
        let its_hello = hello.clone();
        tasks.spawn(async move {
            take_place(its_hello, place, &its_raft, &membership, &its_peers).await;
        });
        // Without a leader every first request would be turned away. If there is none by then,
        // there is no quorum, and what is known here is better than nothing.
        let elected = raft.wait(Some(2 * config.election_timeout.end));
        let elected = elected.metrics(|now| now.current_leader.is_some(), "a leader");
        if elected.await.is_err() {
            tracing::warn!("no leader yet: answering with what is known here");
        }
        Ok(Inner {
            name: hello.name,
            own,
            raft,
            state,
            batcher,
            barrier,
            peers,
            leader_contact,
            quorum_contact,
            clock,
            failure: failure.clone(),
            close_peers,
            log: store.log(),
            store: Mutex::new(Some(store)),
            tasks: tokio::spawn(supervise(tasks, failure)).abort_handle(),
        })
    }

    async fn stop(&self) {
        let inner = self;
        inner.batcher.close();
        if self.metrics().current_leader == Some(inner.own.id) {
            self.say_goodbye().await;
        }
        inner.close_peers.send_replace(true);
        inner.tasks.abort();
        if let Err(error) = inner.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        let store = inner
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(store) = store else { return };
        let closed = blocking(move || Ok(store.close()?)).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the store did not close cleanly");
        }
    }

    async fn say_goodbye(&self) {
        let metrics = self.metrics();
        let nodes: BTreeMap<MemberId, PeerNode> = metrics
            .membership_config
            .nodes()
            .map(|(id, node)| (*id, node.clone()))
            .collect();
        // Nothing that the others hear from now on should renew the lease.
        self.raft.runtime_config().heartbeat(false);
        let mut goodbyes = JoinSet::new();
        let leader = self.own.id;
        for (id, node) in nodes {
            if id == leader {
                continue;
            }
            let peers = self.peers.clone();
            goodbyes.spawn(async move {
                let heard = peers.call(id, &node, LeaderLeaves, GOODBYE).await;
                if let Err(error) = heard {
                    tracing::debug!(id, %error, "did not hear our goodbye");
                }
            });
        }
        goodbyes.join_all().await;
    }

    fn metrics(&self) -> RaftMetrics {
        self.raft.metrics().borrow().clone()
    }
}

/// Ends the member when a task that it cannot do without has panicked: without its barrier, say,
/// it would answer stale for ever. Aborting this aborts all of them.
async fn supervise(mut tasks: JoinSet<()>, failure: Failure) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            let reason = format!("a task has panicked: {error}");
            failure.send_replace(Some(Ending::Other(reason)));
        }
    }
}

/// A sole voter has nobody to wait for.
async fn elect_oneself_if_alone(id: MemberId, raft: &Raft) -> Result<()> {
    let membership = raft.metrics().borrow().membership_config.clone();
    let voters: Vec<MemberId> = membership.voter_ids().collect();
    if voters == [id] {
        let elected = raft.trigger().elect().await;
        elected.map_err(|error| Error::Fatal(error.to_string()))?;
    }
    Ok(())
}

fn into_tokio(listener: std::net::TcpListener) -> Result<tokio::net::TcpListener> {
    let unusable = |error: std::io::Error| Error::Fatal(format!("peer listener: {error}"));
    listener.set_nonblocking(true).map_err(unusable)?;
    tokio::net::TcpListener::from_std(listener).map_err(unusable)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Fatal(error.to_string())))
}
