//! Tests that snapshots round-trip, and that damaged or forged ones are rejected.

use super::*;
use crate::registry::event::{Event, MemberBatch, Proposal};
use crate::registry::values::{PeerInfo, ProducerId};

fn registry() -> RegistrationDb {
    let producer = || ProducerId {
        broadcast_address: "nsqd-1".into(),
        tcp_port: 4150,
    };
    let attach = Event::Attach {
        producer: producer(),
        remote_address: "10.0.0.1:50000".into(),
        info: PeerInfo::default(),
        at: 1,
    };
    let claims = (0..20).map(|number| Event::Claim {
        producer: producer(),
        topic: format!("topic-{}", number % 5),
        channel: Some(format!("channel-{number}")),
    });
    let mut db = RegistrationDb::new();
    let batch = MemberBatch {
        member: 7,
        incarnation: 2,
        sequence: 1,
        at: 0,
        events: [attach].into_iter().chain(claims).collect(),
    };
    db.apply(&Proposal {
        batches: vec![batch],
        ..Proposal::default()
    })
    .unwrap();
    db
}

fn path() -> &'static Path {
    Path::new("snapshot")
}

fn encode(db: &RegistrationDb, mark: &[u8]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), path(), db.state_hash(), mark).unwrap();
    for row in db.rows_beside_topics() {
        writer.row(&row.key(), &row.value().unwrap()).unwrap();
    }
    for topic in db.topics() {
        let packed = db.pack(topic).unwrap().unwrap();
        writer.topic(topic, &packed).unwrap();
    }
    let (bytes, length) = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, length);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Decoded> {
    let decoded = read(bytes, bytes.len() as u64, path());
    let verified = verify(bytes, bytes.len() as u64, path());
    // Not the other way round: a check of the bytes does not see what they mean.
    assert!(decoded.is_err() || verified.is_ok());
    decoded
}

/// Replaces bytes and fixes the checksum, as a forger would.
fn forge(bytes: &[u8], position: usize, forged: &[u8]) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len() - 4].to_vec();
    bytes[position..position + forged.len()].copy_from_slice(forged);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

#[test]
fn a_registry_comes_back_whole() {
    for (db, mark) in [
        (registry(), b"mark".as_slice()),
        (RegistrationDb::new(), b""),
    ] {
        let bytes = encode(&db, mark);
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.mark, mark);
        assert_eq!(decoded.db.state_hash(), db.state_hash());
        assert_eq!(encode(&decoded.db, mark), bytes);
        let found = read_mark(&bytes[..], bytes.len() as u64, path()).unwrap();
        assert_eq!(found, mark);
    }
}

#[test]
fn any_flipped_or_missing_byte_is_noticed() {
    let bytes = encode(&registry(), b"mark");
    for position in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[position] ^= 1;
        assert!(decode(&bad).is_err(), "byte {position} flipped");
        assert!(verify(&bad[..], bad.len() as u64, path()).is_err());
        assert!(decode(&bytes[..position]).is_err(), "cut at {position}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(decode(&longer).is_err());
}

#[test]
fn a_fitting_checksum_is_not_enough() {
    let bytes = encode(&registry(), b"mark");
    let count = bytes.len() - 12;
    for (position, forged, expected) in [
        (0, b"X".to_vec(), "has no snapshot header"),
        (8, vec![2], "format version 2 is not supported"),
        (9, vec![0xAA; 16], "do not match its state hash"),
        (25, u32::MAX.to_be_bytes().to_vec(), "it is truncated"),
        (33, b"x".to_vec(), "of an unknown kind"),
        (count, vec![1; 8], "its row count is wrong"),
    ] {
        let forged = forge(&bytes, position, &forged);
        let reason = decode(&forged).unwrap_err().to_string();
        assert!(reason.contains(expected), "byte {position}: {reason}");
    }
}

#[test]
fn rows_that_do_not_add_up_are_never_written() {
    let db = registry();
    let mut writer = Writer::begin(Vec::new(), path(), db.state_hash(), b"mark").unwrap();
    for row in db.rows_beside_topics() {
        writer.row(&row.key(), &row.value().unwrap()).unwrap();
    }
    writer.finish().expect_err("topics are missing");
}
