//! Tests that snapshots round-trip, and that damaged or forged ones are rejected.

use super::*;
use crate::registry::event::{Event, MemberBatch, Proposal};

fn registry() -> RegistrationDb {
    let mut db = RegistrationDb::new();
    let events = (0..20).map(|number| Event::CreateChannel {
        topic: format!("topic-{}", number % 5),
        channel: format!("channel-{number}"),
    });
    let batch = MemberBatch {
        member: 7,
        incarnation: 2,
        sequence: 1,
        at: 0,
        events: events.collect(),
    };
    db.apply(&Proposal {
        batches: vec![batch],
        ..Proposal::default()
    })
    .unwrap();
    db
}

/// Replaces bytes and fixes the checksum, as a forger would.
fn forge(bytes: &[u8], position: usize, forged: &[u8]) -> Vec<u8> {
    let mut bytes = bytes[..bytes.len() - TRAILER_BYTES].to_vec();
    bytes[position..position + forged.len()].copy_from_slice(forged);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

fn reason(bytes: &[u8]) -> String {
    decode(bytes).unwrap_err().to_string()
}

#[test]
fn a_registry_comes_back_whole() {
    for (db, mark) in [
        (registry(), b"mark".as_slice()),
        (RegistrationDb::new(), b""),
    ] {
        let bytes = encode(&db, mark).unwrap();
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.mark, mark);
        assert_eq!(decoded.db.state_hash(), db.state_hash());
        assert_eq!(encode(&decoded.db, mark).unwrap(), bytes);
    }
}

#[test]
fn any_flipped_or_missing_byte_is_noticed() {
    let bytes = encode(&registry(), b"mark").unwrap();
    for position in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[position] ^= 1;
        assert!(decode(&bad).is_err(), "byte {position} flipped");
        assert!(decode(&bytes[..position]).is_err(), "cut at {position}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(decode(&longer).is_err());
}

#[test]
fn a_fitting_checksum_is_not_enough() {
    let bytes = encode(&registry(), b"mark").unwrap();
    let count = u64::from_be_bytes(bytes[9..17].try_into().unwrap());
    for (position, forged, expected) in [
        (0, b"X".to_vec(), "has no snapshot header"),
        (8, vec![1], "format version 1 is not supported"),
        (9, (count + 1).to_be_bytes().to_vec(), "it is truncated"),
        (9, u64::MAX.to_be_bytes().to_vec(), "it is truncated"),
        (
            9,
            (count - 1).to_be_bytes().to_vec(),
            "its row count is wrong",
        ),
        (17, vec![0xAA; 16], "do not match its state hash"),
        (33, u32::MAX.to_be_bytes().to_vec(), "it is truncated"),
    ] {
        let reason = reason(&forge(&bytes, position, &forged));
        assert!(reason.contains(expected), "byte {position}: {reason}");
    }
}
