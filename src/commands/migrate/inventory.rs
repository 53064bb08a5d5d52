//! Holds what a registry lists: topics, their channels, their producers. PURE.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use raftlookupd_raft::storage::registration::is_ephemeral;

/// The contents of one registry, or of several together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Inventory {
    /// By name; every name is valid.
    pub(super) topics: BTreeMap<String, Topic>,
}

/// The contents of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Topic {
    /// Every name is valid.
    pub(super) channels: BTreeSet<String>,
    /// The active producers, those with a tombstone included.
    pub(super) producers: BTreeMap<Producer, Listing>,
}

/// An nsqd, the same at every registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Producer {
    pub(super) broadcast_address: String,
    pub(super) tcp_port: i64,
}

/// How a producer is listed for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) http_port: i64,
    pub(super) tombstoned: bool,
}

/// The number of items of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) topics: usize,
    pub(super) channels: usize,
    pub(super) producers: usize,
    pub(super) tombstones: usize,
}

impl Inventory {
    /// Combines registries: what any of them lists. A tombstone at one is a tombstone.
    pub(super) fn union<'a>(all: impl IntoIterator<Item = &'a Inventory>) -> Inventory {
        let mut union = Inventory::default();
        for (name, topic) in all.into_iter().flat_map(|one| &one.topics) {
            let together = union.topics.entry(name.clone()).or_default();
            together.channels.extend(topic.channels.iter().cloned());
            for (producer, listing) in &topic.producers {
                together.list(producer.clone(), *listing);
            }
        }
        union
    }

    /// How the producer is listed for the topic.
    pub(super) fn listing(&self, topic: &str, producer: &Producer) -> Option<&Listing> {
        self.topics.get(topic)?.producers.get(producer)
    }

    /// Counts everything except the names that come and go with their claims.
    pub(super) fn durable(&self) -> Totals {
        let mut totals = Totals::default();
        for (name, topic) in &self.topics {
            if !is_ephemeral(name) {
                let channels = topic.channels.iter();
                totals.topics += 1;
                totals.channels += channels.filter(|channel| !is_ephemeral(channel)).count();
            }
            let tombstones = topic.producers.values();
            totals.producers += topic.producers.len();
            totals.tombstones += tombstones.filter(|listing| listing.tombstoned).count();
        }
        totals
    }

    /// The ephemeral topics, and the ephemeral channels of other topics.
    pub(super) fn ephemeral_names(&self) -> usize {
        let each = self.topics.iter().map(|(name, topic)| {
            if is_ephemeral(name) {
                return 1;
            }
            let channels = topic.channels.iter();
            channels.filter(|channel| is_ephemeral(channel)).count()
        });
        each.sum()
    }
}

impl Topic {
    /// Adds a producer. One that is connected twice is one; a tombstone on either counts.
    pub(super) fn list(&mut self, producer: Producer, listing: Listing) {
        let known = self.producers.entry(producer).or_insert(listing);
        known.tombstoned |= listing.tombstoned;
    }
}

impl fmt::Display for Producer {
    /// `broadcast_address:tcp_port`, escaped: nsqds may announce anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.broadcast_address.escape_debug();
        write!(f, "{address}:{}", self.tcp_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::migrate::difference::tests::inventory;

    #[test]
    fn together() {
        let one = inventory(&["a: x", "b: +h:1 +i:1"]);
        let other = inventory(&["a: y", "b: -h:1"]);
        assert_eq!(
            Inventory::union([&one, &other]),
            inventory(&["a: x y", "b: -h:1 +i:1"])
        );
        assert_eq!(Inventory::union([]), Inventory::default());
    }

    #[test]
    fn what_counts() {
        let all = inventory(&["a: x y#ephemeral +h:1", "b#ephemeral: z -h:1", "c:"]);
        let durable = Totals {
            topics: 2,
            channels: 1,
            producers: 2,
            tombstones: 1,
        };
        assert_eq!(all.durable(), durable);
        assert_eq!(all.ephemeral_names(), 2);
    }

    #[test]
    fn a_producer_is_one_line() {
        let producer = Producer {
            broadcast_address: "a\nb\u{1b}".into(),
            tcp_port: -1,
        };
        assert_eq!(producer.to_string(), "a\\nb\\u{1b}:-1");
    }
}
