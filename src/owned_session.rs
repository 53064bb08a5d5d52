//! The owner's side of a session: what one nsqd told this member, carried into the registry.
//!
//! Every event that is submitted here is repeated by the registry until it is committed. So a
//! command that is not committed in time is answered `E_UNAVAILABLE`, keeps its connection, and
//! takes effect later: nsqd ignores the text of an answer, and only a broken connection makes
//! it register anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use raftlookupd_raft::storage::event::Event;
use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId, SessionId};
use raftlookupd_raft::{Error, Pending, Registry, Result};

use crate::context::Context;
use crate::metrics::SessionEvent;
use crate::protocol::reply::OK;
use crate::upstream_log::{self, Change};

/// nsqd gives a lookupd one second for each command.
const ANSWER: Duration = Duration::from_millis(500);

/// How long an answer waits when an earlier event of the session is overdue. An nsqd that waited
/// half a second a thousand times would tell its other lookupds nothing for minutes, and they
/// would hide it. Not to wait at all would let a client queue events faster than they commit.
const BEHIND: Duration = Duration::from_millis(10);

/// An nsqd that has gone is waited for no longer before its connection is closed.
const DETACH: Duration = Duration::from_secs(1);

/// nsqd sends all its REGISTERs before its first PING; if none comes, they are taken to be
/// complete so long after the last one.
const SETTLED: Duration = Duration::from_secs(5);

type Name = (String, Option<String>);

/// How an answer comes about.
pub(crate) enum Answer {
    /// It is there.
    Now(Vec<u8>),
    /// There is no leader to wait for; the event is queued.
    Unavailable,
    /// `OK` when the event is committed.
    Commit {
        /// The event's fate.
        pending: Pending,
        /// When `E_UNAVAILABLE` is said instead.
        until: Instant,
    },
    /// `OK` when the event is committed, or when that takes too long.
    Settle {
        /// The event's fate.
        pending: Pending,
        /// When it is not waited for any longer.
        until: Instant,
    },
    /// `OK` when a barrier has shown that the claim is still there.
    Present {
        /// Whose claim.
        registry: Registry,
        /// Whose session.
        session: SessionId,
        /// The claim.
        claim: Name,
        /// When `E_UNAVAILABLE` is said instead.
        until: Instant,
    },
}

/// What comes of an answer.
pub(crate) enum Outcome {
    /// Say this.
    Say(Vec<u8>),
    /// Say `E_UNAVAILABLE`; what was asked for follows.
    Unavailable,
    /// A newer session of the same nsqd has taken over; this one ends.
    Superseded,
}

impl Answer {
    /// Waits for the answer, half a second at most.
    pub(crate) async fn wait(self) -> Outcome {
        match self {
            Answer::Now(body) => Outcome::Say(body),
            Answer::Unavailable => Outcome::Unavailable,
            Answer::Commit { pending, until } => {
                match tokio::time::timeout_at(until.into(), pending).await {
                    Ok(Ok(())) => Outcome::Say(OK.to_vec()),
                    Ok(Err(Error::Refused(_))) => Outcome::Superseded,
                    Ok(Err(_)) | Err(_) => Outcome::Unavailable,
                }
            }
            Answer::Settle { pending, until } => {
                match tokio::time::timeout_at(until.into(), pending).await {
                    Ok(Err(Error::Refused(_))) => Outcome::Superseded,
                    Ok(_) | Err(_) => Outcome::Say(OK.to_vec()),
                }
            }
            Answer::Present {
                registry,
                session,
                claim: (topic, channel),
                until,
            } => {
                let member = registry.member_id();
                let left = until.saturating_duration_since(Instant::now());
                let confirmed = registry.barrier(left).await.is_ok();
                let there =
                    registry.read(|db| db.has_claim(member, session, &topic, channel.as_deref()));
                if confirmed && there {
                    return Outcome::Say(OK.to_vec());
                }
                let claim = Event::Claim {
                    session,
                    topic,
                    channel,
                };
                match registry.submit(claim) {
                    Ok(pending) if confirmed => {
                        Box::pin(Answer::Commit { pending, until }.wait()).await
                    }
                    Ok(_) | Err(_) => Outcome::Unavailable,
                }
            }
        }
    }

    /// Whether later events of the session must wait for this answer: it may still submit one.
    pub(crate) fn may_submit(&self) -> bool {
        matches!(self, Answer::Present { .. })
    }
}

/// One nsqd's session at this member.
pub(crate) struct OwnedSession {
    context: Arc<Context>,
    remote_address: String,
    attached: Option<Attached>,
}

struct Attached {
    registry: Registry,
    session: SessionId,
    /// What the nsqd has registered since IDENTIFY, until what an older session left is sorted
    /// out. Bounded by the time that takes.
    repeated: Option<BTreeSet<Name>>,
    settled_at: Instant,
    /// The last release that was submitted; a claim that it takes away still looks as if it were
    /// there until its fate is known.
    last_release: u64,
    /// An event that was submitted, and when: the oldest of which it is not known that it was
    /// decided.
    oldest: Option<(u64, Instant)>,
    heard: Instant,
    active: bool,
}

impl OwnedSession {
    /// A session of a connection from this address; nothing is attached yet.
    pub(crate) fn new(context: Arc<Context>, remote_address: String) -> Self {
        OwnedSession {
            context,
            remote_address,
            attached: None,
        }
    }

    /// IDENTIFY: attaches the nsqd. The answer says who we are, whether or not the attachment
    /// is committed yet.
    ///
    /// # Errors
    /// [`Error::Loading`], [`Error::QueueFull`], [`Error::Stopping`]: the connection must end.
    pub(crate) async fn attach(&mut self, producer: ProducerId, info: PeerInfo) -> Result<Answer> {
        let registry = self.context.registry().await?;
        let session = registry.new_session();
        upstream_log::identified(&self.remote_address, &producer, &info);
        let attach = Event::Attach {
            producer,
            session,
            remote_address: self.remote_address.clone(),
            info,
            at: registry.now(),
        };
        let submitted = Instant::now();
        let pending = registry.submit(attach)?;
        let ordinal = pending.ordinal();
        if registry.has_leader() {
            // Whether it is committed in time or not, the answer is the same. The barrier brings
            // the attachment here, so that claims that are there already are seen.
            let here = async { pending.await.is_ok() && registry.barrier(ANSWER).await.is_ok() };
            let _ = tokio::time::timeout(ANSWER, here).await;
        }
        let now = Instant::now();
        self.context.metrics.session(SessionEvent::Attached);
        let member = registry.member_id();
        let has_nothing = registry.read(|db| {
            db.is_attached(member, session) && db.claims_of(member, session).next().is_none()
        });
        self.attached = Some(Attached {
            registry,
            session,
            // An nsqd that is new here has nothing to be sorted out.
            repeated: (!has_nothing).then(BTreeSet::new),
            settled_at: now + SETTLED,
            last_release: 0,
            oldest: Some((ordinal, submitted)),
            heard: now,
            active: true,
        });
        Ok(Answer::Now(self.introduction()))
    }

    /// REGISTER. A claim that is there already costs a barrier and no log entry.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::Stopping`]: the connection must end, the nsqd will
    /// register anew.
    pub(crate) fn claim(&mut self, topic: String, channel: Option<String>) -> Result<Answer> {
        let Some(attached) = &mut self.attached else {
            return Err(Error::Loading);
        };
        let remote = &self.remote_address;
        upstream_log::registration(remote, Change::Register, &topic, channel.as_deref());
        if let Some(repeated) = &mut attached.repeated {
            repeated.insert((topic.clone(), channel.clone()));
            attached.settled_at = Instant::now() + SETTLED;
        }
        let (registry, session) = (&attached.registry, attached.session);
        let member = registry.member_id();
        let there = registry.is_decided(attached.last_release)
            && registry.read(|db| db.has_claim(member, session, &topic, channel.as_deref()));
        if there {
            return Ok(Answer::Present {
                registry: registry.clone(),
                session,
                claim: (topic, channel),
                until: Instant::now() + ANSWER,
            });
        }
        let pending = attached.submit(Event::Claim {
            session,
            topic,
            channel,
        })?;
        Ok(attached.committed(pending))
    }

    /// UNREGISTER.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub(crate) fn release(&mut self, topic: String, channel: Option<String>) -> Result<Answer> {
        let Some(attached) = &mut self.attached else {
            return Err(Error::Loading);
        };
        let remote = &self.remote_address;
        upstream_log::registration(remote, Change::Unregister, &topic, channel.as_deref());
        // What was repeated stays so: an nsqd that gives up a channel still has the topic, which
        // it may never have registered by itself.
        let pending = attached.submit_release(topic, channel)?;
        Ok(attached.committed(pending))
    }

    /// PING: the nsqd is alive, and has registered all it has.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub(crate) fn ping(&mut self) -> Result<Answer> {
        if let Some(attached) = &mut self.attached {
            attached.heard = Instant::now();
            attached.settle()?;
            if !attached.active {
                self.context.metrics.session(SessionEvent::ActiveAgain);
                let pending = attached.set_active(true)?;
                // Who hears the answer may look whether the nsqd is listed.
                let until = Instant::now() + attached.patience();
                return Ok(Answer::Settle { pending, until });
            }
        }
        Ok(Answer::Now(OK.to_vec()))
    }

    /// When [`tick`](Self::tick) should be called, if at all.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let attached = self.attached.as_ref()?;
        let timeout = self.context.inactive_producer_timeout;
        let silent = attached.active.then(|| attached.heard + timeout);
        let settled = attached.repeated.is_some().then_some(attached.settled_at);
        match (silent, settled) {
            (Some(silent), Some(settled)) => Some(silent.min(settled)),
            (silent, settled) => silent.or(settled),
        }
    }

    /// Does what is due: hides an nsqd that has been silent for too long, and sorts out what an
    /// older session left.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub(crate) fn tick(&mut self) -> Result<()> {
        let Some(attached) = &mut self.attached else {
            return Ok(());
        };
        let now = Instant::now();
        if attached.active && now >= attached.heard + self.context.inactive_producer_timeout {
            tracing::warn!(
                remote = self.remote_address,
                "no PING for too long, hiding the nsqd"
            );
            self.context.metrics.session(SessionEvent::Inactive);
            attached.set_active(false)?;
        }
        if attached.repeated.is_some() && now >= attached.settled_at {
            attached.settle()?;
            attached.settled_at = now + SETTLED;
        }
        Ok(())
    }

    /// The connection is over: the nsqd's claims at this member go, before its end of the
    /// connection sees the close.
    pub(crate) async fn detach(self) {
        let Some(Attached {
            registry, session, ..
        }) = self.attached
        else {
            return;
        };
        self.context.metrics.session(SessionEvent::Detached);
        match registry.submit(Event::Detach { session }) {
            // Later is well enough if it takes longer.
            Ok(pending) => drop(tokio::time::timeout(DETACH, pending).await),
            Err(error) => tracing::warn!(%error, "its claims stay until this member restarts"),
        }
    }

    fn introduction(&self) -> Vec<u8> {
        let context = &self.context;
        let introduction = serde_json::json!({
            "tcp_port": context.tcp_port,
            "http_port": context.http_port,
            "version": context.version,
            "hostname": context.hostname,
            "broadcast_address": context.broadcast_address,
        });
        introduction.to_string().into_bytes()
    }
}

impl Attached {
    /// Releases what an older session of this nsqd has left and this one did not repeat. Tried
    /// again later if the attachment is not committed yet.
    fn settle(&mut self) -> Result<()> {
        let Some(repeated) = &self.repeated else {
            return Ok(());
        };
        let (member, session) = (self.registry.member_id(), self.session);
        let topic_repeated = |name: &str| {
            let mut from = repeated.range((name.to_string(), None)..);
            from.next().is_some_and(|(topic, _)| topic == name)
        };
        let leftovers = self.registry.read(|db| {
            db.is_attached(member, session).then(|| {
                let mut leftovers: Vec<Name> = Vec::new();
                for (topic, channel) in db.claims_of(member, session) {
                    let of_released_topic = leftovers
                        .last()
                        .is_some_and(|(last, whole)| last == topic && whole.is_none());
                    let name = (topic.to_string(), channel.map(String::from));
                    let kept = match channel {
                        None => topic_repeated(topic),
                        Some(_) => repeated.contains(&name),
                    };
                    if !kept && !of_released_topic {
                        leftovers.push(name);
                    }
                }
                leftovers
            })
        });
        let Some(leftovers) = leftovers else {
            return Ok(());
        };
        if !leftovers.is_empty() {
            tracing::info!(
                count = leftovers.len(),
                "releasing what the nsqd did not repeat"
            );
        }
        for (topic, channel) in leftovers {
            self.submit_release(topic, channel)?;
        }
        self.repeated = None;
        Ok(())
    }

    fn submit_release(&mut self, topic: String, channel: Option<String>) -> Result<Pending> {
        let pending = self.submit(Event::Release {
            session: self.session,
            topic,
            channel,
        })?;
        self.last_release = pending.ordinal();
        Ok(pending)
    }

    fn set_active(&mut self, active: bool) -> Result<Pending> {
        let session = self.session;
        let pending = self.submit(Event::SetActive { session, active })?;
        self.active = active;
        Ok(pending)
    }

    fn submit(&mut self, event: Event) -> Result<Pending> {
        let pending = self.registry.submit(event)?;
        if self
            .oldest
            .is_none_or(|(oldest, _)| self.registry.is_decided(oldest))
        {
            self.oldest = Some((pending.ordinal(), Instant::now()));
        }
        Ok(pending)
    }

    fn committed(&self, pending: Pending) -> Answer {
        match self.patience() {
            Duration::ZERO => Answer::Unavailable,
            patience => Answer::Commit {
                pending,
                until: Instant::now() + patience,
            },
        }
    }

    /// How long a commit is waited for: not at all without a leader.
    fn patience(&self) -> Duration {
        let is_overdue = self.oldest.is_some_and(|(oldest, since)| {
            since.elapsed() >= ANSWER && !self.registry.is_decided(oldest)
        });
        match (self.registry.has_leader(), is_overdue) {
            (false, _) => Duration::ZERO,
            (true, true) => BEHIND,
            (true, false) => ANSWER,
        }
    }
}
