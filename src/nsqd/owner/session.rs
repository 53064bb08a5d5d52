//! Holds what the owner knows about one open session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId, UnixMillis};
use raftlookupd_raft::storage::registration_db::Name;

use super::claims::Claims;
use super::now::Moment;

/// The memory of an unconfirmed name besides its letters: in the session's sets, in the producer's, and
/// as allocations.
const NAME_BYTES: usize = 200;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) producer: Arc<ProducerId>,
    pub(super) remote_address: String,
    pub(super) info: PeerInfo,
    /// When it identified itself, on the cluster's clock.
    pub(super) at: UnixMillis,
    /// The time of the last PING, or of IDENTIFY.
    pub(super) heard: Moment,
    /// Whether it has sent a PING: nsqd registers everything before its first.
    pub(super) pinged: bool,
    pub(super) claims: Claims,
    /// Claims whose own REGISTER is not confirmed yet, with its number. A delete that is applied
    /// meanwhile came before them.
    unconfirmed: BTreeMap<Name, u64>,
    unconfirmed_bytes: usize,
    /// [`committed`](super::state::Owner::committed) when a command was last answered
    /// `E_UNAVAILABLE`; `None` if one was confirmed since.
    pub(super) late: Option<u64>,
}

impl Session {
    pub(super) fn new(
        producer: Arc<ProducerId>,
        remote_address: String,
        info: PeerInfo,
        at: UnixMillis,
        heard: Moment,
    ) -> Self {
        Session {
            producer,
            remote_address,
            info,
            at,
            heard,
            pinged: false,
            claims: Claims::default(),
            unconfirmed: BTreeMap::new(),
            unconfirmed_bytes: 0,
            late: None,
        }
    }

    /// Handles the REGISTER with this number: the name is wanted, and not confirmed.
    pub(super) fn register(&mut self, name: &Name, number: u64) {
        self.claims.insert(name);
        if self.unconfirmed.insert(name.clone(), number).is_none() {
            self.unconfirmed_bytes += bytes(name);
        }
    }

    /// Confirms REGISTERs of the name up to this number: the claim is recorded.
    pub(super) fn confirm(&mut self, name: &Name, until: u64) {
        if self
            .unconfirmed
            .get(name)
            .is_some_and(|number| *number <= until)
        {
            self.forget(name);
        }
    }

    fn forget(&mut self, name: &Name) {
        if self.unconfirmed.remove(name).is_some() {
            self.unconfirmed_bytes -= bytes(name);
        }
    }

    /// Removes the topic; returns the channels that were wanted, if it was.
    pub(super) fn unregister_topic(&mut self, topic: &Arc<str>) -> Option<BTreeSet<Arc<str>>> {
        for name in self.unconfirmed_of(topic) {
            self.forget(&name);
        }
        self.claims.remove_topic(topic)
    }

    /// Removes the channel. The topic stays wanted; it is unconfirmed if the channel was.
    pub(super) fn unregister_channel(&mut self, topic: &Arc<str>, channel: &Arc<str>) {
        let name = (topic.clone(), Some(channel.clone()));
        if let Some(number) = self.unconfirmed.get(&name).copied() {
            self.forget(&name);
            self.register(&(topic.clone(), None), number);
        }
        self.claims.remove_channel(topic, channel);
    }

    /// Handles a delete of the topic: what was confirmed of it is no longer wanted.
    pub(super) fn topic_deleted(&mut self, topic: &Arc<str>) -> Option<BTreeSet<Arc<str>>> {
        let waiting = self.unconfirmed_of(topic);
        let topic_waits = waiting.iter().any(|(_, channel)| channel.is_none());
        let channels = waiting.into_iter().filter_map(|(_, channel)| channel);
        self.claims
            .keep_only(topic, channels.collect(), topic_waits)
    }

    /// Handles a delete of the channel.
    pub(super) fn channel_deleted(&mut self, topic: &Arc<str>, channel: &Arc<str>) {
        if !self.is_unconfirmed(&(topic.clone(), Some(channel.clone()))) {
            self.claims.remove_channel(topic, channel);
        }
    }

    pub(super) fn is_unconfirmed(&self, name: &Name) -> bool {
        self.unconfirmed.contains_key(name)
    }

    /// The size of this session's undecided changes, in bytes.
    pub(super) fn undecided_bytes(&self) -> usize {
        self.unconfirmed_bytes
    }

    /// Names of the topic whose REGISTERs are not confirmed.
    pub(super) fn unconfirmed_of(&self, topic: &Arc<str>) -> Vec<Name> {
        let of_topic = self.unconfirmed.range((topic.clone(), None)..);
        let of_topic = of_topic.map(|(name, _)| name);
        let of_topic = of_topic.take_while(|(name, _)| name == topic);
        of_topic.cloned().collect()
    }
}

fn bytes((topic, channel): &Name) -> usize {
    NAME_BYTES + topic.len() + channel.as_ref().map_or(0, |channel| channel.len())
}
