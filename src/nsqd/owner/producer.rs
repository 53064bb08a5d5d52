//! Holds what the owner knows about one producer: its sessions, and what is to be compared or decided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use raftlookupd_raft::storage::registration::UnixMillis;
use raftlookupd_raft::storage::registration_db::Name;

use super::claims::{Channels, Claims};
use super::ids::{SessionId, Ticket};
use super::now::Moment;

/// The limit of names to be compared that are listed one by one.
pub(super) const MOST_LISTED: usize = 50_000;

/// What the owner keeps about one producer.
#[derive(Debug, Default)]
pub(super) struct Producer {
    /// Open sessions, the oldest first.
    pub(super) sessions: Vec<SessionId>,
    /// When the last session ended, on the cluster's clock.
    pub(super) ended: UnixMillis,
    /// Until when claims of earlier incarnations, recorded but not wanted, are protected from release
    /// if no session is open, or those of ended sessions in any case. `None` if nothing is protected: its nsqd has sent a PING, or nothing is
    /// recorded.
    pub(super) inherits_until: Option<Moment>,
    /// Whether the protected claims are those of ended sessions of this incarnation: the nsqd has
    /// reconnected but not sent its first PING, so it may not have registered everything.
    pub(super) is_reconnecting: bool,
    /// Claims that an event of another member took. They are recorded again at the next PING of a
    /// session that wants them.
    pub(super) taken: BTreeSet<Name>,
    /// Whether the attachment was taken with all claims.
    pub(super) all_taken: bool,
    /// Registered names, to be compared with what is recorded.
    pub(super) registered: BTreeSet<Name>,
    /// Withdrawn names, to be compared with what is recorded.
    pub(super) withdrawn: VecDeque<Withdrawn>,
    /// Those of both that wait for an undecided change.
    pub(super) blocked: Blocked,
    /// The comparison of everything, if one is under way.
    pub(super) review: Option<Review>,
    pub(super) undecided: Undecided,
    pub(super) waiters: BTreeMap<Want, Vec<Ticket>>,
    /// Whether it is queued for the next batch.
    pub(super) is_ready: bool,
    /// When to retry after a change was refused.
    pub(super) not_before: Option<Moment>,
    /// Whether it is recorded as active, as far as this member knows.
    pub(super) is_active: bool,
    /// Whether the log last said that its nsqd is silent.
    pub(super) logged_inactive: bool,
    /// When the log last reported that several connections announce it.
    pub(super) shared_logged: Option<Moment>,
}

/// Names that a session gave up, or that it had when it ended.
#[derive(Debug)]
pub(super) struct Withdrawn {
    pub(super) topic: Arc<str>,
    /// Whether the topic itself was withdrawn, with everything below it.
    pub(super) whole: bool,
    pub(super) channels: Channels,
    /// Whether it was an UNREGISTER, which also applies to inherited claims.
    pub(super) spoken: bool,
}

impl Withdrawn {
    /// One name, given up by an UNREGISTER.
    pub(super) fn spoken((topic, channel): &Name) -> Self {
        Withdrawn {
            topic: topic.clone(),
            whole: channel.is_none(),
            channels: channel.clone().into_iter().collect(),
            spoken: true,
        }
    }

    /// A topic with channels whose session ended.
    pub(super) fn ended(topic: Arc<str>, channels: Channels) -> Self {
        Withdrawn {
            topic,
            whole: true,
            channels,
            spoken: false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Blocked {
    pub(super) registered: BTreeSet<Name>,
    pub(super) withdrawn: Vec<Withdrawn>,
}

/// A comparison of all that is recorded with all that is wanted, page by page.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// Remaining names of the page.
    pub(super) page: VecDeque<Name>,
    /// The last name of the page.
    pub(super) after: Option<Name>,
    /// `None` while recorded names are reviewed, then the session whose names are.
    pub(super) session: Option<SessionId>,
    /// Whether it is a routine check, which should find nothing.
    pub(super) is_audit: bool,
}

/// Changes that are proposed and not applied here yet.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    pub(super) attachment: bool,
    pub(super) activity: bool,
    /// Claims, and releases of channels.
    pub(super) names: BTreeSet<Name>,
    /// Releases of topics with all their channels.
    pub(super) topics: BTreeSet<Arc<str>>,
}

impl Undecided {
    pub(super) fn is_empty(&self) -> bool {
        !self.attachment && !self.activity && self.names.is_empty() && self.topics.is_empty()
    }

    /// Whether a change of the name is undecided.
    pub(super) fn has(&self, name: &Name) -> bool {
        self.topics.contains(&name.0) || self.names.contains(name)
    }

    /// Whether a change of the topic or of anything below it is undecided.
    pub(super) fn has_below(&self, topic: &Arc<str>) -> bool {
        let mut names = self.names.range((topic.clone(), None)..);
        self.topics.contains(topic) || names.next().is_some_and(|(name, _)| name == topic)
    }
}

/// What a command waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    Attached,
    Active,
    Claim(Name),
    Release(Name),
    /// What an ended session left behind is gone.
    Ended,
}

impl Producer {
    /// Whether the producer can be forgotten.
    pub(super) fn is_idle(&self) -> bool {
        self.sessions.is_empty()
            && self.inherits_until.is_none()
            && self.undecided.is_empty()
            && !self.is_ready
            && self.not_before.is_none()
    }

    pub(super) fn withdraw_all(&mut self, claims: Claims) {
        let topics = claims.into_topics();
        let withdrawn = topics.map(|(topic, channels)| Withdrawn::ended(topic, channels));
        self.withdrawn.extend(withdrawn);
    }

    /// Whether an event of another member took the name, or its topic.
    pub(super) fn is_taken(&self, name: &Name) -> bool {
        !self.taken.is_empty()
            && (self.taken.contains(name) || self.taken.contains(&(name.0.clone(), None)))
    }

    /// Forgets all names that were to be compared; returns the channels among them.
    pub(super) fn forget_names(&mut self) -> Vec<Channels> {
        self.registered.clear();
        self.blocked.registered.clear();
        self.review = None;
        self.taken.clear();
        self.all_taken = false;
        let withdrawn = self.withdrawn.drain(..);
        let withdrawn = withdrawn.chain(self.blocked.withdrawn.drain(..));
        withdrawn.map(|withdrawn| withdrawn.channels).collect()
    }

    /// Whether more names are to be compared than a list of them is worth.
    pub(super) fn has_much_to_compare(&self) -> bool {
        let withdrawn = self.withdrawn.iter().chain(&self.blocked.withdrawn);
        let names = withdrawn.map(|withdrawn| withdrawn.channels.len() + 1);
        let registered = self.registered.len() + self.blocked.registered.len();
        registered + names.sum::<usize>() > MOST_LISTED
    }

    /// Drops the lists of names, but for UNREGISTERs: comparing everything finds the others.
    pub(super) fn compare_all(&mut self) {
        self.registered.clear();
        self.blocked.registered.clear();
        self.withdrawn.retain(|withdrawn| withdrawn.spoken);
        self.blocked.withdrawn.retain(|withdrawn| withdrawn.spoken);
        self.start_review();
    }

    /// Starts a comparison of everything.
    pub(super) fn start_review(&mut self) {
        self.review = Some(Review::default());
    }

    /// Makes what waited for undecided changes ready to be compared again.
    pub(super) fn unblock(&mut self) {
        self.registered.append(&mut self.blocked.registered);
        self.withdrawn.extend(self.blocked.withdrawn.drain(..));
    }

    /// Whether nothing is undecided or known to need comparing.
    pub(super) fn is_settled(&self) -> bool {
        self.has_withdrawn_all() && self.registered.is_empty() && self.blocked.registered.is_empty()
    }

    /// Whether everything that ended sessions left is removed.
    pub(super) fn has_withdrawn_all(&self) -> bool {
        self.withdrawn.is_empty() && self.blocked.withdrawn.is_empty() && self.undecided.is_empty()
    }
}
