//! Sends keep-alives to the leader, and records, as the leader, which members are away.
//!
//! When a member's process dies its attachments stay listed, since its nsqds are most likely alive.
//! Being recorded as away hides nothing by itself; the registry hides what is away for too long, and
//! removes what an nsqd gives up at another member meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::event::Event;
use raftlookupd_storage::registration::MemberId;
use raftlookupd_storage::registration_db::Lifetimes;

use crate::cluster::leader_contact::LeaderContact;
use crate::cluster::view::View;
use crate::log::registry_state::RegistryState;
use crate::peer::client::PeerClient;
use crate::peer::message::KeepAlive;
use crate::read::clock::ClusterClock;
use crate::watch::absence::{Absence, Seen};
use crate::write::batcher::Batcher;
use crate::write::proposer::Proposer;

/// A leader without a quorum for this long judges no member: it may be the one that is cut off.
const QUORUM: Duration = Duration::from_secs(1);

/// Interval between keep-alives.
const INTERVAL: Duration = Duration::from_secs(1);

/// Interval between checks for a leader while none is known: the first keep-alive brings the
/// cluster's time.
const NO_LEADER: Duration = Duration::from_millis(50);

/// Deadline of a keep-alive.
const ANSWER: Duration = Duration::from_millis(500);

/// When each member last sent a keep-alive, or any other request.
#[derive(Default)]
pub(crate) struct KeepAlives(Mutex<BTreeMap<MemberId, Instant>>);

impl KeepAlives {
    pub(crate) fn received(&self, member: MemberId) {
        self.last_received().insert(member, Instant::now());
    }

    fn last(&self, member: MemberId) -> Option<Instant> {
        self.last_received().get(&member).copied()
    }

    fn last_received(&self) -> std::sync::MutexGuard<'_, BTreeMap<MemberId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One member's part: sends keep-alives, and records which members are away while it leads.
pub(crate) struct Liveness {
    pub(crate) view: View,
    pub(crate) peers: PeerClient,
    pub(crate) state: Arc<RegistryState>,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) batcher: Arc<Batcher>,
    pub(crate) keep_alives: Arc<KeepAlives>,
    pub(crate) leader_contact: Arc<LeaderContact>,
    pub(crate) clock: Arc<ClusterClock>,
    /// How long a member may be away before its nsqds are hidden.
    pub(crate) timeout: Duration,
}

/// What has been logged.
#[derive(Default)]
struct Logged {
    away: BTreeSet<MemberId>,
    hidden: BTreeSet<MemberId>,
}

impl Liveness {
    /// Runs for as long as the member does.
    pub(crate) async fn run(self) {
        let mut absence = Absence::default();
        let mut logged = Logged::default();
        loop {
            if self.view.leads_with_quorum(QUORUM) {
                self.judge(&mut absence).await;
            } else {
                absence.not_leading();
                self.send_keep_alive().await;
            }
            self.log_absence(&mut logged);
            let is_away = |db: &raftlookupd_storage::registration_db::RegistrationDb| {
                db.member(self.view.me())
                    .is_some_and(|row| row.away.is_some())
            };
            if self.state.read(is_away) {
                self.batcher.show_presence();
            }
            let pause = match self.view.leader() {
                Some(_) => INTERVAL,
                None => NO_LEADER,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends one to the leader, unless that is this member.
    async fn send_keep_alive(&self) {
        let Some((leader, node)) = self.view.other_leader() else {
            return;
        };
        let asked = Instant::now();
        let answer = self.peers.call(leader, &node, KeepAlive, ANSWER).await;
        match answer {
            // The reply may have sat in the socket buffer while this process was suspended.
            Ok(_) if asked.elapsed() > ANSWER => {}
            Ok(word) => {
                self.clock.adopt(word.time);
                if self.state.applied() >= word.index
                    && let Some(at) = asked.checked_sub(word.without_quorum)
                {
                    self.leader_contact.is_current(at);
                }
            }
            Err(error) => {
                tracing::debug!(leader = node.name, %error, "keep-alive not acknowledged");
            }
        }
    }

    async fn judge(&self, absence: &mut Absence) {
        let mut others = self.view.nodes();
        others.remove(&self.view.me());
        let others = others.into_keys();
        let seen: Vec<Seen> = self.state.read(|db| {
            others
                .map(|member| Seen {
                    member,
                    heard: self
                        .keep_alives
                        .last(member)
                        .max(self.view.contact().last_accepted(member)),
                    settled: db.member(member).is_none_or(|row| row.away.is_some()),
                })
                .collect()
        });
        let led_before = self.leader_contact.heard();
        let absent = absence.judge(Instant::now(), led_before, &seen);
        let at = self.clock.now();
        let mut noticed: Vec<Event> = absent
            .iter()
            .map(|absent| Event::Away {
                member: absent.member,
                last_heard: at.saturating_sub(millis(absent.silence)),
                at,
            })
            .collect();
        for member in self.left_behind() {
            tracing::warn!(
                member,
                "member removed from the cluster: its nsqds are unlisted"
            );
            noticed.push(Event::RemoveMember { member });
        }
        if noticed.is_empty() {
            return;
        }
        // Judged again at the next turn, should it not be committed; the events are idempotent.
        if let Err(error) = self.proposer.submit_own(noticed).await {
            tracing::warn!(%error, "absence of a member not recorded yet");
        }
    }

    /// Members that are in the registry and no longer in the cluster. The leader that
    /// removed them may have died before it recorded that.
    fn left_behind(&self) -> Vec<MemberId> {
        let members = self.view.nodes();
        self.state.read(|db| {
            let gone = |id: &MemberId| !members.contains_key(id);
            db.present_members().filter(gone).collect()
        })
    }

    /// One line for each transition, at every member.
    fn log_absence(&self, logged: &mut Logged) {
        let lifetimes = Lifetimes {
            now: self.clock.now(),
            tombstone: 0,
            away: millis(self.timeout),
        };
        let (mut away, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for (id, node) in &self.view.nodes() {
            let member = node.name.as_str();
            let (is_away, is_hidden, nsqds) = self.state.read(|db| {
                let is_away = db.member(*id).is_some_and(|row| row.away.is_some());
                (
                    is_away,
                    db.is_hidden(*id, lifetimes),
                    db.attachments_at(*id),
                )
            });
            if is_away && !logged.away.contains(id) {
                tracing::warn!(member, nsqds, "member away: its nsqds stay listed for now");
            }
            if is_hidden && !logged.hidden.contains(id) {
                let timeout_s = self.timeout.as_secs();
                tracing::warn!(
                    member,
                    nsqds,
                    timeout_s,
                    "member away for too long: its nsqds are hidden until it is back"
                );
            }
            if !is_away && logged.away.contains(id) {
                tracing::info!(member, nsqds, "member back");
            }
            away.extend(is_away.then_some(*id));
            hidden.extend(is_hidden.then_some(*id));
        }
        *logged = Logged { away, hidden };
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
