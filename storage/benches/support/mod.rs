//! Helps several benchmarks: a registry of a given size, and proposals for it.
// Each benchmark is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use raftlookupd_storage::event::{Event, MemberBatch, Proposal};
use raftlookupd_storage::registration::{PeerInfo, ProducerId};
use raftlookupd_storage::registration_db::RegistrationDb;

/// The number of nsqds, all attached to the only member.
pub const NSQDS: u64 = 10;

/// The number of channels of each topic.
pub const CHANNELS: usize = 5;

/// One member's proposals, numbered in sequence.
#[derive(Default)]
pub struct Proposals {
    sequence: u64,
}

impl Proposals {
    pub fn next(&mut self, events: Vec<Event>) -> Proposal {
        self.sequence += 1;
        let batch = MemberBatch {
            member: 1,
            incarnation: 1,
            sequence: self.sequence,
            at: 0,
            events,
        };
        Proposal {
            batches: vec![batch],
            ..Proposal::default()
        }
    }
}

pub fn producer(nsqd: u64) -> ProducerId {
    ProducerId {
        broadcast_address: format!("nsqd-{nsqd}.example.org"),
        tcp_port: 4150,
    }
}

pub fn topic(number: usize) -> String {
    format!("topic-{number:05}")
}

pub fn attach(nsqd: u64) -> Event {
    let producer = producer(nsqd);
    let host = producer.broadcast_address.clone();
    Event::Attach {
        producer,
        remote_address: format!("10.0.0.{nsqd}:40000"),
        info: PeerInfo {
            hostname: host,
            http_port: 4151,
            version: "1.3.0".into(),
            ..PeerInfo::default()
        },
        at: 1_700_000_000_000,
    }
}

/// The events that claim all channels of these topics for an nsqd.
pub fn claims(nsqd: u64, topics: std::ops::Range<usize>) -> Vec<Event> {
    let channels = topics.flat_map(|number| (0..CHANNELS).map(move |channel| (number, channel)));
    let claim = |(number, channel)| Event::Claim {
        producer: producer(nsqd),
        topic: topic(number),
        channel: Some(format!("channel-{channel}")),
    };
    channels.map(claim).collect()
}

/// A registry in which every nsqd claims all topics, and its next proposals.
pub fn registry(topics: usize) -> (RegistrationDb, Proposals) {
    let (mut db, mut proposals) = (RegistrationDb::new(), Proposals::default());
    for nsqd in 0..NSQDS {
        let mut events = vec![attach(nsqd)];
        events.extend(claims(nsqd, 0..topics));
        db.apply(&proposals.next(events))
            .expect("rows can be encoded");
    }
    (db, proposals)
}
