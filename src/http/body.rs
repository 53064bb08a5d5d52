//! Builds the JSON of short answers: nsqlookupd's keys in nsqlookupd's order. Pure.

use std::collections::BTreeMap;

use raftlookupd_raft::storage::registration_db::{Lifetimes, ProducerView, RegistrationDb};
use serde::Serialize;

/// GET /topics.
pub(super) fn topics(db: &RegistrationDb) -> impl Serialize {
    let topics: Vec<&str> = db.topics().collect();
    BTreeMap::from([("topics", topics)])
}

/// GET /channels: an empty list for a topic that is not listed.
pub(super) fn channels<'a>(db: &'a RegistrationDb, topic: &str) -> impl Serialize + use<'a> {
    let channels: Vec<&str> = db.channels(topic).into_iter().flatten().collect();
    BTreeMap::from([("channels", channels)])
}

/// GET /lookup; `None` if the topic is not listed.
pub fn lookup<'a>(
    db: &'a RegistrationDb,
    topic: &str,
    lifetimes: Lifetimes,
) -> Option<impl Serialize + use<'a>> {
    #[derive(Serialize)]
    struct Found<'a> {
        channels: Vec<&'a str>,
        producers: Vec<Producer<'a>>,
    }
    let channels = db.channels(topic)?.collect();
    let producers = db.producers(topic, lifetimes).into_iter().flatten();
    let producers = producers.map(Producer::from).collect();
    Some(Found {
        channels,
        producers,
    })
}

/// GET /nodes.
pub fn nodes(db: &RegistrationDb, lifetimes: Lifetimes) -> impl Serialize {
    let nodes: Vec<Node<'_>> = db
        .nodes(lifetimes)
        .map(|node| Node {
            producer: node.producer.into(),
            tombstones: node
                .topics
                .iter()
                .map(|(_, tombstoned)| *tombstoned)
                .collect(),
            topics: node.topics.iter().map(|(name, _)| *name).collect(),
        })
        .collect();
    BTreeMap::from([("producers", nodes)])
}

/// GET /debug: every registration that has a producer, the inactive ones too.
pub(super) fn debug(db: &RegistrationDb) -> impl Serialize {
    let entries = db.debug().map(|entry| {
        let key = format!("{}:{}:{}", entry.category, entry.key, entry.subkey);
        let producers = entry.producers.into_iter();
        (key, producers.map(DebugProducer::from).collect::<Vec<_>>())
    });
    entries.collect::<BTreeMap<_, _>>()
}

/// A producer of /nodes with upstream's keys, in upstream's order.
#[derive(Serialize)]
pub(super) struct Node<'a> {
    #[serde(flatten)]
    pub(super) producer: Producer<'a>,
    pub(super) tombstones: Vec<bool>,
    pub(super) topics: Vec<&'a str>,
}

/// A producer with upstream's keys, in upstream's order.
#[derive(Serialize)]
pub(super) struct Producer<'a> {
    remote_address: &'a str,
    hostname: &'a str,
    broadcast_address: &'a str,
    tcp_port: i64,
    http_port: i64,
    version: &'a str,
    topology_zone: &'a str,
    topology_region: &'a str,
}

impl<'a> From<ProducerView<'a>> for Producer<'a> {
    fn from(view: ProducerView<'a>) -> Self {
        Producer {
            remote_address: view.remote_address,
            hostname: &view.info.hostname,
            broadcast_address: &view.id.broadcast_address,
            tcp_port: view.id.tcp_port,
            http_port: view.info.http_port,
            version: &view.info.version,
            topology_zone: &view.info.topology_zone,
            topology_region: &view.info.topology_region,
        }
    }
}

/// A producer as upstream's /debug shows it, its keys sorted.
#[derive(Serialize)]
pub(super) struct DebugProducer<'a> {
    broadcast_address: &'a str,
    hostname: &'a str,
    http_port: i64,
    id: &'a str,
    /// Nanoseconds. PINGs are not replicated, so this is when the session began.
    last_update: i64,
    tcp_port: i64,
    tombstoned: bool,
    /// Nanoseconds; without a tombstone upstream shows its zero time, which is negative.
    tombstoned_at: i64,
    topology_region: &'a str,
    topology_zone: &'a str,
    version: &'a str,
}

/// Go's zero time as nanoseconds since the epoch, as far as it fits.
const NEVER: i64 = -6_795_364_578_871_345_152;

impl<'a> From<(ProducerView<'a>, Option<u64>)> for DebugProducer<'a> {
    fn from((view, tombstoned_at): (ProducerView<'a>, Option<u64>)) -> Self {
        let nanos = |millis: u64| i64::try_from(millis).unwrap_or(0).saturating_mul(1_000_000);
        DebugProducer {
            broadcast_address: &view.id.broadcast_address,
            hostname: &view.info.hostname,
            http_port: view.info.http_port,
            id: view.remote_address,
            last_update: nanos(view.attached_at),
            tcp_port: view.id.tcp_port,
            tombstoned: tombstoned_at.is_some(),
            tombstoned_at: tombstoned_at.map_or(NEVER, nanos),
            topology_region: &view.info.topology_region,
            topology_zone: &view.info.topology_zone,
            version: &view.info.version,
        }
    }
}
