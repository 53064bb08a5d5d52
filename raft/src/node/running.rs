//! Runs a member that has loaded: starts what writes, reads and watches, and stops it.

use std::sync::{Arc, Mutex, PoisonError};

use raftlookupd_storage::log_table::LogTable;
use raftlookupd_storage::store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::identity::OwnMembership;
use crate::cluster::leader_contact::LeaderContact;
use crate::cluster::view::View;
use crate::config::{Config, LONGEST_LOG};
use crate::error::Result;
use crate::failure::{Ending, Failure};
use crate::log::compaction::{Compaction, watch_store};
use crate::log::registry_state::RegistryState;
use crate::members::change_link::ChangeLink;
use crate::members::handover::Handover;
use crate::members::listed::report_difference;
use crate::members::membership::Membership;
use crate::members::placement::Placement;
use crate::members::removal::watch_removal;
use crate::node::loading::Loaded;
use crate::node::opening::Base;
use crate::node::peer_service::Running;
use crate::node::runtime::blocking;
use crate::node::standing::{self, keep_speakers, watch_standing};
use crate::owner::SharedOwner;
use crate::peer::client::PeerClient;
use crate::peer::message::Promote;
use crate::peer::speakers::Speakers;
use crate::read::authority::ReadAuthority;
use crate::read::barrier::Barrier;
use crate::read::clock::ClusterClock;
use crate::read::round::ReadRound;
use crate::types::Raft;
use crate::watch::election::{Timing, watch_leader};
use crate::watch::first_election::win_first_election;
use crate::watch::liveness::{KeepAlives, Liveness};
use crate::watch::sweeping::{expire, sweep};
use crate::watch::transitions::log_transitions;
use crate::write::batcher::{self, Batcher};
use crate::write::leader_link::LeaderLink;
use crate::write::proposer::Proposer;
use crate::write::space::DiskSpace;

/// A member that takes part in its cluster.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) own: OwnMembership,
    pub(crate) raft: Raft,
    pub(crate) view: View,
    pub(crate) state: Arc<RegistryState>,
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) barrier: Arc<Barrier>,
    pub(crate) peers: PeerClient,
    pub(crate) leader_contact: Arc<LeaderContact>,
    pub(crate) clock: Arc<ClusterClock>,
    pub(crate) failure: Failure,
    pub(crate) log: LogTable,
    pub(crate) changes: ChangeLink,
    handover: Arc<Handover>,
    speakers: Arc<Speakers>,
    /// Whether the registry's tables were damaged at the start.
    pub(crate) rebuilt: bool,
    pub(crate) space: Arc<DiskSpace>,
    store: Mutex<Option<Store>>,
    stop: CancellationToken,
}

/// What the tasks of a member share.
struct Parts {
    proposer: Arc<Proposer>,
    batcher: Arc<Batcher>,
    barrier: Arc<Barrier>,
    authority: ReadAuthority,
    membership: Arc<Membership>,
    handover: Arc<Handover>,
    clock: Arc<ClusterClock>,
    leader_contact: Arc<LeaderContact>,
    keep_alives: Arc<KeepAlives>,
    failure: Failure,
}

impl Node {
    /// Opens the data path, joins a cluster, and takes part in it.
    ///
    /// # Errors
    /// Those of [`standing::join`], [`Loaded::load`] and [`Loaded::begin`].
    pub(crate) async fn start(config: Config, owner: SharedOwner) -> Result<Node> {
        let (opened, own) = standing::join(config).await?;
        let mut loaded = Loaded::load(opened, own, owner.clone()).await?;
        let parts = Parts::start(&mut loaded, owner);
        parts.answer_peers(&loaded);
        loaded.begin().await?;
        parts.watch(&mut loaded);
        loaded.wait_for_leader().await;
        let base = loaded.base;
        tokio::spawn(supervise(
            base.tasks,
            parts.failure.clone(),
            base.stop.clone(),
        ));
        let changes = ChangeLink {
            view: loaded.view.clone(),
            membership: parts.membership,
            peers: base.peers.clone(),
        };
        Ok(Node {
            name: base.hello.name,
            own: loaded.own,
            raft: loaded.raft,
            view: loaded.view,
            state: loaded.state,
            batcher: parts.batcher,
            barrier: parts.barrier,
            peers: base.peers,
            leader_contact: parts.leader_contact,
            clock: parts.clock,
            failure: parts.failure,
            log: base.store.log(),
            changes,
            handover: parts.handover,
            speakers: base.speakers,
            rebuilt: loaded.rebuilt,
            space: base.space,
            store: Mutex::new(Some(base.store)),
            stop: base.stop,
        })
    }

    /// Announces to the others that this member stops, if it leads; stops, and closes the store.
    pub(crate) async fn stop(&self) {
        self.batcher.close();
        if self.view.leads() && !self.view.other_voters().is_empty() {
            self.leave().await;
        }
        self.stop.cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        let store = self
            .store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(store) = store else { return };
        let speakers = self.speakers.clone();
        let closed = blocking(move || {
            speakers.store()?;
            Ok(store.close()?)
        })
        .await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the store did not close cleanly");
        }
    }

    async fn leave(&self) {
        let Err(stayed) = self.handover.hand_over(None).await else {
            return;
        };
        tracing::info!(%stayed, "leadership could not be handed over");
        self.raft.runtime_config().heartbeat(false);
        self.handover.say_goodbye(None).await;
    }
}

impl Parts {
    /// Starts what reads and writes need.
    fn start(loaded: &mut Loaded, owner: SharedOwner) -> Parts {
        let Base {
            settings,
            hello,
            peers,
            space,
            tasks,
            ..
        } = &mut loaded.base;
        let (view, state) = (&loaded.view, &loaded.state);
        let proposer = Proposer::start(loaded.raft.clone(), tasks);
        let clock = Arc::new(ClusterClock::starting_at(settings.wall_clock));
        let failure = watch::Sender::new(None);
        let authority = ReadAuthority {
            view: view.clone(),
            facts: loaded.log.facts(),
            state: state.clone(),
        };
        let rounds = ReadRound::new(authority.clone(), clock.clone(), peers.clone());
        let barrier = Barrier::start(rounds, view.clone(), state.clone(), tasks);
        let batcher = batcher::Parts {
            member: loaded.own.id,
            incarnation: loaded.incarnation.clone(),
            owner,
            state: state.clone(),
            view: view.clone(),
            link: LeaderLink::new(view.clone(), proposer.clone(), peers.clone()),
            barrier: barrier.clone(),
            clock: clock.clone(),
            failure: failure.clone(),
            space: space.clone(),
        };
        let handover = Arc::new(Handover {
            raft: loaded.raft.clone(),
            view: view.clone(),
            peers: peers.clone(),
            proposer: proposer.clone(),
            facts: loaded.log.facts(),
            lease: settings.election_timeout.end,
        });
        let (cluster, state) = (loaded.own.cluster, state.clone());
        let membership = Membership::new(hello.clone(), cluster, state, handover.clone());
        Parts {
            batcher: Batcher::start(batcher, tasks),
            membership: Arc::new(membership),
            handover,
            leader_contact: Arc::default(),
            keep_alives: Arc::default(),
            proposer,
            barrier,
            authority,
            clock,
            failure,
        }
    }

    /// Has peers answered.
    fn answer_peers(&self, loaded: &Loaded) {
        loaded.base.server.service().run_as(Running {
            cluster: loaded.own.cluster,
            view: loaded.view.clone(),
            raft: loaded.raft.clone(),
            log: loaded.log.clone(),
            state: loaded.state.clone(),
            proposer: self.proposer.clone(),
            membership: self.membership.clone(),
            leader_contact: self.leader_contact.clone(),
            keep_alives: self.keep_alives.clone(),
            clock: self.clock.clone(),
            barrier: self.barrier.clone(),
            read_authority: self.authority.clone(),
            space: loaded.base.space.clone(),
        });
    }

    /// Starts what watches the others and this member itself.
    fn watch(&self, loaded: &mut Loaded) {
        self.watch_cluster(loaded);
        let placement = self.placement(loaded);
        let (raft, failure) = (&loaded.raft, &self.failure);
        let (view, state, proposer) = (&loaded.view, &loaded.state, &self.proposer);
        let (log, snapshots) = (loaded.base.store.log(), loaded.base.store.snapshots());
        let tasks = &mut loaded.base.tasks;
        tasks.spawn(placement.take());
        tasks.spawn(sweep(view.clone(), state.clone(), proposer.clone()));
        let clock = self.clock.clone();
        tasks.spawn(expire(view.clone(), state.clone(), clock, proposer.clone()));
        let (me, speakers) = (loaded.base.me.clone(), loaded.base.speakers.clone());
        tasks.spawn(watch_standing(me, failure.clone()));
        tasks.spawn(keep_speakers(speakers));
        let compaction = Compaction {
            raft: raft.clone(),
            log: log.clone(),
            snapshots,
            entries: loaded.base.settings.snapshot_count,
            bytes: LONGEST_LOG,
        };
        tasks.spawn(compaction.run());
        tasks.spawn(watch_store(log, failure.clone()));
        let (space, batcher) = (loaded.base.space.clone(), self.batcher.clone());
        tasks.spawn(async move { space.watch(|| batcher.wake()).await });
    }

    fn watch_cluster(&self, loaded: &mut Loaded) {
        let (raft, view, own) = (&loaded.raft, &loaded.view, &loaded.own);
        let Base {
            settings,
            hello,
            peers,
            tasks,
            ..
        } = &mut loaded.base;
        let (contact, failure) = (&self.leader_contact, &self.failure);
        let timing = Timing {
            heartbeat: settings.heartbeat_interval,
            lease: settings.election_timeout.end,
        };
        tasks.spawn(watch_leader(
            hello.clone(),
            view.clone(),
            raft.clone(),
            peers.clone(),
            contact.clone(),
            timing,
        ));
        let patience = settings.election_timeout.start;
        tasks.spawn(log_transitions(
            view.clone(),
            raft.clone(),
            patience,
            failure.clone(),
        ));
        if loaded.founded {
            tasks.spawn(win_first_election(
                hello.clone(),
                own.cluster,
                view.clone(),
                raft.clone(),
                peers.clone(),
            ));
        }
        tasks.spawn(report_difference(
            hello.clone(),
            own.cluster,
            view.clone(),
            peers.clone(),
        ));
        let liveness = Liveness {
            view: view.clone(),
            peers: peers.clone(),
            state: loaded.state.clone(),
            proposer: self.proposer.clone(),
            batcher: self.batcher.clone(),
            keep_alives: self.keep_alives.clone(),
            leader_contact: contact.clone(),
            clock: self.clock.clone(),
            timeout: settings.member_timeout,
        };
        tasks.spawn(liveness.run());
        tasks.spawn(watch_removal(
            hello.clone(),
            own.cluster,
            view.clone(),
            contact.clone(),
            peers.clone(),
            failure.clone(),
        ));
    }

    fn placement(&self, loaded: &Loaded) -> Placement {
        Placement {
            hello: loaded.base.hello.clone(),
            wanted: Promote {
                id: loaded.own.id,
                address: loaded.base.settings.address.clone(),
            },
            view: loaded.view.clone(),
            membership: self.membership.clone(),
            peers: loaded.base.peers.clone(),
        }
    }
}

/// Runs the tasks until the member stops, and ends it when one that it cannot do without has
/// panicked: without its barrier, say, it would answer stale indefinitely.
async fn supervise(mut tasks: JoinSet<()>, failure: Failure, stop: CancellationToken) {
    loop {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            ended = tasks.join_next() => ended,
        };
        match ended {
            Some(Err(error)) if error.is_panic() => {
                let reason = format!("a task has panicked: {error}");
                failure.send_replace(Some(Ending::Other(reason)));
            }
            Some(_) => {}
            None => return,
        }
    }
}
