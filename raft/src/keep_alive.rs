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

use crate::batcher::Batcher;
use crate::cluster_clock::ClusterClock;
use crate::peer_client::PeerClient;
use crate::peer_message::{KeepAlive, LeadersTime};
use crate::registry_state::RegistryState;
use crate::types::{Raft, RaftMetrics};

/// A leader that has not heard a quorum for so long judges nobody: it is the one cut off.
const QUORUM: Duration = Duration::from_secs(1);

/// At most this long between two signs of life; less when the timeout is short.
const INTERVAL: Duration = Duration::from_secs(1);

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
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) signs: Arc<SignsOfLife>,
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
        loop {
            tokio::time::sleep(interval).await;
            let metrics = self.raft.metrics().borrow().clone();
            if metrics.current_leader == Some(self.me) {
                self.signs.hear(self.me);
                let since = *leading_since.get_or_insert_with(Instant::now);
                if has_quorum(&metrics) {
                    self.judge(&metrics, since);
                }
            } else {
                leading_since = None;
                self.give_sign(&metrics).await;
            }
        }
    }

    async fn give_sign(&self, metrics: &RaftMetrics) {
        let membership = metrics.membership_config.membership();
        let leader = metrics.current_leader;
        let Some((leader, node)) = leader.and_then(|id| Some((id, membership.get_node(&id)?)))
        else {
            return;
        };
        let sign = KeepAlive { member: self.me };
        let given = self.peers.call(leader, &node.address, sign, ANSWER).await;
        match given {
            Ok(LeadersTime(time)) => self.clock.take_over(time),
            Err(error) => {
                tracing::debug!(leader, %error, "the leader did not hear our sign of life");
            }
        }
    }

    fn judge(&self, metrics: &RaftMetrics, leading_since: Instant) {
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
            self.submit(event);
        }
        for member in self.left_behind(metrics) {
            tracing::warn!(
                member,
                "the member has left the cluster: its nsqds go with it"
            );
            self.submit(Event::RemoveMember { member });
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

    /// Judged again at the next turn, should it not be queued or not be applied by then; the
    /// events are idempotent.
    fn submit(&self, event: Event) {
        if let Err(error) = self.batcher.submit(event) {
            tracing::warn!(%error, "could not say what became of a member");
        }
    }
}

fn has_quorum(metrics: &RaftMetrics) -> bool {
    let silence = metrics.millis_since_quorum_ack.map(Duration::from_millis);
    silence.is_none_or(|silence| silence < QUORUM)
}
