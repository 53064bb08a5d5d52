//! Which members are alive, as far as lookups are concerned. Nothing of this is logged but the
//! two transitions.
//!
//! A member whose process is gone cannot tell that its nsqds are: its attachments stay listed,
//! since the nsqds most likely live. When it stays away for as long as a silent nsqd is listed,
//! the leader has it suspended: one event hides all its attachments, and one resumes them.
//!
//! Only monotonic time counts. A new leader has heard nobody yet, so it first grants every
//! member a full timeout.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration::MemberId;

use crate::cluster_clock::ClusterClock;
use crate::peer_client::PeerClient;
use crate::peer_message::KeepAlive;
use crate::peer_server::LeaderContact;
use crate::proposer::Proposer;
use crate::quorum_contact::QuorumContact;
use crate::registry_state::RegistryState;
use crate::types::{Raft, RaftMetrics};

/// A leader that has not heard a quorum for so long judges nobody: it is the one cut off.
const QUORUM: Duration = Duration::from_secs(1);

/// At most this long between two signs of life; less when the timeout is short.
const INTERVAL: Duration = Duration::from_secs(1);

/// Without a leader it is looked for this often: the first sign of life brings the cluster's time.
const NO_LEADER: Duration = Duration::from_millis(50);

/// A sign of life that is not heard by then is not waited for.
const ANSWER: Duration = Duration::from_millis(500);

/// What the leader has heard of the members.
#[derive(Default)]
pub(crate) struct SignsOfLife(Mutex<BTreeMap<MemberId, Instant>>);

impl SignsOfLife {
    pub(crate) fn hear(&self, member: MemberId) {
        self.heard().insert(member, Instant::now());
    }

    fn last(&self, member: MemberId) -> Option<Instant> {
        self.heard().get(&member).copied()
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, BTreeMap<MemberId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One member's part: gives signs of life, and judges those of the others while it leads.
pub(crate) struct Liveness {
    pub(crate) me: MemberId,
    pub(crate) raft: Raft,
    pub(crate) peers: PeerClient,
    pub(crate) state: Arc<RegistryState>,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) signs: Arc<SignsOfLife>,
    pub(crate) leader_contact: Arc<LeaderContact>,
    pub(crate) quorum_contact: Arc<QuorumContact>,
    pub(crate) clock: Arc<ClusterClock>,
    /// How long a member may be silent.
    pub(crate) timeout: Duration,
}

impl Liveness {
    /// Runs for as long as the member does.
    pub(crate) async fn run(self) {
        let interval = INTERVAL
            .min(self.timeout / 5)
            .max(Duration::from_millis(10));
        let mut leading_since = None;
        let mut last_turn = Instant::now();
        loop {
            // A process that was stopped for so long has heard nobody, and not because they were
            // silent.
            if last_turn.elapsed() > interval + self.timeout / 2 {
                leading_since = None;
            }
            last_turn = Instant::now();
            let metrics = self.raft.metrics().borrow().clone();
            if metrics.current_leader == Some(self.me) {
                self.signs.hear(self.me);
                let since = *leading_since.get_or_insert_with(Instant::now);
                if self.has_quorum(&metrics) {
                    self.judge(&metrics, since).await;
                }
            } else {
                leading_since = None;
                self.give_sign(&metrics).await;
            }
            let pause = match metrics.current_leader {
                Some(_) => interval,
                None => interval.min(NO_LEADER),
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn has_quorum(&self, metrics: &RaftMetrics) -> bool {
        let age = self.quorum_contact.age(self.me, metrics);
        age.is_some_and(|age| age < QUORUM)
    }

    async fn give_sign(&self, metrics: &RaftMetrics) {
        let membership = metrics.membership_config.membership();
        let leader = metrics.current_leader;
        let Some((leader, node)) = leader.and_then(|id| Some((id, membership.get_node(&id)?)))
        else {
            return;
        };
        let asked = Instant::now();
        let sign = KeepAlive { member: self.me };
        let given = self.peers.call(leader, &node.address, sign, ANSWER).await;
        match given {
            // It may have lain here while this member was stopped.
            Ok(_) if asked.elapsed() > ANSWER => {}
            Ok(word) => {
                self.clock.take_over(word.time);
                if self.state.applied() >= word.index
                    && let Some(at) = asked.checked_sub(word.without_quorum)
                {
                    self.leader_contact.is_current(at);
                }
            }
            Err(error) => {
                tracing::debug!(leader, %error, "the leader did not hear our sign of life");
            }
        }
    }

    async fn judge(&self, metrics: &RaftMetrics, leading_since: Instant) {
        let mut found = Vec::new();
        for (member, node) in metrics.membership_config.nodes() {
            let suspended = self
                .state
                .read(|db| db.member(*member).is_some_and(|row| row.suspended));
            let heard = self.signs.last(*member);
            let heard = heard.filter(|heard| *heard >= leading_since);
            let silence = heard.unwrap_or(leading_since).elapsed();
            let event = match suspended {
                false if silence > self.timeout && *member != self.me => {
                    tracing::warn!(
                        member = node.name,
                        ?silence,
                        "member suspended: its nsqds are hidden until it is back"
                    );
                    Event::SuspendMember { member: *member }
                }
                true if heard.is_some() && silence < self.timeout => {
                    tracing::info!(
                        member = node.name,
                        "member is back, its nsqds are listed again"
                    );
                    Event::ResumeMember { member: *member }
                }
                _ => continue,
            };
            found.push(event);
        }
        for member in self.left_behind(metrics) {
            tracing::warn!(
                member,
                "the member has left the cluster: its nsqds go with it"
            );
            found.push(Event::RemoveMember { member });
        }
        if found.is_empty() {
            return;
        }
        // Judged again at the next turn, should it not be committed; the events are idempotent.
        if let Err(error) = self.proposer.submit_own(found).await {
            tracing::warn!(%error, "could not say what became of a member");
        }
    }

    /// Members that the registry knows and the cluster does not know any more. The leader that
    /// removed them may have died before it said so.
    fn left_behind(&self, metrics: &RaftMetrics) -> Vec<MemberId> {
        let membership = metrics.membership_config.membership();
        self.state.read(|db| {
            let gone = |id: &MemberId| membership.get_node(id).is_none();
            db.present_members().filter(gone).collect()
        })
    }
}
