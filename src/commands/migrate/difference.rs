//! Compares two inventories. PURE.

use std::collections::BTreeSet;
use std::fmt;

use raftlookupd_raft::storage::registration::is_ephemeral;

use super::inventory::{Inventory, Listing, Producer, Topic};

/// An item that only one side lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) side: Side,
    pub(super) item: Item,
}

/// Which side lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The nsqlookupds that are compared with a cluster.
    There,
    /// The cluster.
    Here,
}

/// An item that can be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Topic(String),
    Channel {
        topic: String,
        channel: String,
    },
    Producer {
        topic: String,
        producer: Producer,
    },
    Tombstone {
        topic: String,
        producer: Producer,
        /// As the cluster knows it: /topic/tombstone uses it.
        http_port: i64,
    },
}

/// All differences, topic by topic: the topic, its channels, its producers, its tombstones.
///
/// Ephemeral topics and channels themselves are skipped, since nsqlookupd lists them after their last
/// claim and a cluster does not; the producers of an ephemeral topic are compared. A tombstone is
/// compared only if both sides list the producer: otherwise that is the difference.
pub(super) fn compare(there: &Inventory, here: &Inventory) -> Vec<Difference> {
    let nothing = Topic::default();
    let names: BTreeSet<&String> = there.topics.keys().chain(here.topics.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let mut differs = |side, item| found.push(Difference { side, item });
        let sides = (there.topics.get(name), here.topics.get(name));
        let durable = !is_ephemeral(name);
        match sides {
            (Some(_), None) if durable => differs(Side::There, Item::Topic(name.clone())),
            (None, Some(_)) if durable => differs(Side::Here, Item::Topic(name.clone())),
            _ => {}
        }
        let (there, here) = (sides.0.unwrap_or(&nothing), sides.1.unwrap_or(&nothing));
        let channels = there.channels.symmetric_difference(&here.channels);
        for channel in channels.filter(|channel| durable && !is_ephemeral(channel)) {
            let channel = channel.clone();
            let side = side(there.channels.contains(&channel));
            let topic = name.clone();
            differs(side, Item::Channel { topic, channel });
        }
        let producers: BTreeSet<&Producer> = there
            .producers
            .keys()
            .chain(here.producers.keys())
            .collect();
        for producer in producers {
            let topic = name.clone();
            let listings = (there.producers.get(producer), here.producers.get(producer));
            if let Some((side, item)) = compare_listings(topic, producer, listings) {
                differs(side, item);
            }
        }
    }
    found
}

fn compare_listings(
    topic: String,
    producer: &Producer,
    (there, here): (Option<&Listing>, Option<&Listing>),
) -> Option<(Side, Item)> {
    let producer = producer.clone();
    match (there, here) {
        (Some(there), Some(here)) if there.tombstoned != here.tombstoned => {
            let tombstone = Item::Tombstone {
                topic,
                producer,
                http_port: here.http_port,
            };
            Some((side(there.tombstoned), tombstone))
        }
        (Some(_), Some(_)) | (None, None) => None,
        (there, _) => Some((side(there.is_some()), Item::Producer { topic, producer })),
    }
}

fn side(there: bool) -> Side {
    if there { Side::There } else { Side::Here }
}

impl Inventory {
    /// Whether it lists this.
    pub(super) fn has(&self, item: &Item) -> bool {
        match item {
            Item::Topic(topic) => self.topics.contains_key(topic),
            Item::Channel { topic, channel } => {
                let topic = self.topics.get(topic);
                topic.is_some_and(|topic| topic.channels.contains(channel))
            }
            Item::Producer { topic, producer } => self.listing(topic, producer).is_some(),
            Item::Tombstone {
                topic, producer, ..
            } => {
                let listing = self.listing(topic, producer);
                listing.is_some_and(|listing| listing.tombstoned)
            }
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Topic(topic) => write!(f, "topic {topic}"),
            Item::Channel { topic, channel } => write!(f, "channel {topic}/{channel}"),
            Item::Producer { topic, producer } => write!(f, "producer {topic} {producer}"),
            Item::Tombstone {
                topic, producer, ..
            } => write!(f, "tombstone {topic} {producer}"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// From lines such as `topic: channel +host:port -host:port`, the last with a tombstone.
    pub(in crate::commands::migrate) fn inventory(lines: &[&str]) -> Inventory {
        let mut inventory = Inventory::default();
        for line in lines {
            let (name, words) = line.split_once(':').unwrap();
            let topic = inventory.topics.entry(name.into()).or_default();
            for word in words.split_whitespace() {
                let Some(address) = word.strip_prefix(['+', '-']) else {
                    topic.channels.insert(word.into());
                    continue;
                };
                let (host, port) = address.split_once(':').unwrap();
                let tcp_port = port.parse().unwrap();
                let producer = Producer {
                    broadcast_address: host.into(),
                    tcp_port,
                };
                let listing = Listing {
                    http_port: tcp_port + 1,
                    tombstoned: word.starts_with('-'),
                };
                topic.list(producer, listing);
            }
        }
        inventory
    }

    #[test]
    fn what_differs() {
        for (there, here, expected) in [
            (&[][..], &[][..], &[][..]),
            (&["a: x +h:1 -i:1"], &["a: x +h:1 -i:1"], &[]),
            (&["a:"], &[], &["< topic a"]),
            (&[], &["a:"], &["> topic a"]),
            (
                &["b: y x +h:1", "a:"],
                &[],
                &[
                    "< topic a",
                    "< topic b",
                    "< channel b/x",
                    "< channel b/y",
                    "< producer b h:1",
                ],
            ),
            (
                &["a: x y"],
                &["a: y z"],
                &["< channel a/x", "> channel a/z"],
            ),
            (
                &["a: +h:1 +h:2"],
                &["a: +h:2 +i:2"],
                &["< producer a h:1", "> producer a i:2"],
            ),
            // Tombstones, where both list the producer.
            (&["a: -h:1"], &["a: +h:1"], &["< tombstone a h:1"]),
            (&["a: +h:1"], &["a: -h:1"], &["> tombstone a h:1"]),
            (&["a: -h:1"], &["a:"], &["< producer a h:1"]),
            // Ephemeral names as such do not count, claims of them do.
            (&["a#ephemeral: x"], &[], &[]),
            (&["a: x#ephemeral"], &["a: y#ephemeral"], &[]),
            (
                &["a#ephemeral: x +h:1"],
                &[],
                &["< producer a#ephemeral h:1"],
            ),
        ] {
            let differences = compare(&inventory(there), &inventory(here));
            let shown = differences.iter().map(|difference| {
                let mark = match difference.side {
                    Side::There => '<',
                    Side::Here => '>',
                };
                format!("{mark} {}", difference.item)
            });
            assert_eq!(shown.collect::<Vec<_>>(), expected, "{there:?} {here:?}");
        }
    }

    #[test]
    fn each_side_has_what_only_it_has() {
        let there = inventory(&["a: x +h:1", "b: -h:1"]);
        let here = inventory(&["b: y +h:1 +i:1", "c:"]);
        let differences = compare(&there, &here);
        assert_eq!(differences.len(), 7);
        for Difference { side, item } in differences {
            let expected = (side == Side::There, side == Side::Here);
            assert_eq!((there.has(&item), here.has(&item)), expected, "{item}");
        }
    }

    #[test]
    fn a_tombstone_is_set_where_the_cluster_finds_the_nsqd() {
        let there = inventory(&["a: -h:1"]);
        let mut here = inventory(&["a: +h:1"]);
        for listing in here.topics.get_mut("a").unwrap().producers.values_mut() {
            listing.http_port = 9;
        }
        let differences = compare(&there, &here);
        assert!(
            matches!(
                &differences[..],
                [Difference {
                    item: Item::Tombstone { http_port: 9, .. },
                    ..
                }]
            ),
            "{differences:?}"
        );
    }
}
