//! Helps several test files: entries, proposals, a small random generator.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::path::Path;
use std::sync::mpsc;

use raftlookupd_storage::Result;
use raftlookupd_storage::event::{Event, MemberBatch, Proposal};
use raftlookupd_storage::log_table::LogTable;
use raftlookupd_storage::registration::{PeerInfo, ProducerId};
use raftlookupd_storage::registration_db::RegistrationDb;
use raftlookupd_storage::registration_store::RegistrationStore;
use raftlookupd_storage::store::{LoadedRegistry, Store};

/// Appends, and waits until the entries are durable.
pub fn append(log: &LogTable, entries: Vec<(u64, Vec<u8>)>) {
    let (done, outcome) = mpsc::channel();
    log.append(entries, move |result| done.send(result).unwrap())
        .unwrap();
    outcome.recv().unwrap().unwrap();
}

/// An entry that differs from all others.
pub fn entry(index: u64, length: usize) -> (u64, Vec<u8>) {
    let mut bytes = index.to_be_bytes().to_vec();
    let mut random = Random(index);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_be_bytes());
    }
    bytes.truncate(length.max(8));
    (index, bytes)
}

/// xorshift64*: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        let mut x = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0 = x;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A registry and its next events: one member, one nsqd.
#[derive(Default)]
pub struct Feed {
    pub db: RegistrationDb,
    pub applied: u64,
}

impl Feed {
    /// Continues a registry that was loaded.
    pub fn from(db: RegistrationDb, mark: &[u8]) -> Feed {
        let applied = u64::from_be_bytes(mark.try_into().unwrap());
        Feed { db, applied }
    }

    /// Applies events as the next batch, in memory and on disk; the mark is the batch's number.
    pub fn apply(&mut self, store: &RegistrationStore, events: Vec<Event>) {
        self.applied += 1;
        let proposal = Proposal {
            batches: vec![MemberBatch {
                member: 1,
                incarnation: 1,
                sequence: self.applied,
                at: 0,
                events,
            }],
            ..Proposal::default()
        };
        let applied = self.db.apply(&proposal).unwrap();
        if store.note(&self.db, applied.changes, &self.mark()) {
            store.write(&self.db).unwrap();
        }
    }

    /// Writes everything applied so far to the tables.
    pub fn write(&self, store: &RegistrationStore) {
        store.write(&self.db).unwrap();
    }

    /// Takes a snapshot file. Batch `n` of the registry belongs to entry `n - 1`.
    pub fn snapshot(&self, store: &Store) {
        self.try_snapshot(store).unwrap();
    }

    pub fn try_snapshot(&self, store: &Store) -> Result<()> {
        let frozen = store.registrations().freeze(&self.db, &self.mark())?;
        let frozen = frozen.expect("nothing else freezes the tables");
        frozen.write_to(&store.snapshots(), self.applied - 1)?;
        Ok(())
    }

    pub fn mark(&self) -> [u8; 8] {
        self.applied.to_be_bytes()
    }
}

/// Loads a registry whose batch `n` belongs to entry `n - 1`.
pub fn load(store: &Store) -> Result<LoadedRegistry> {
    store.load_registry(|mark| {
        let applied = u64::from_be_bytes(mark.try_into().unwrap());
        Ok(applied.checked_sub(1))
    })
}

/// The only nsqd.
fn producer() -> ProducerId {
    ProducerId {
        broadcast_address: "nsqd-1".into(),
        tcp_port: 4150,
    }
}

pub fn attach() -> Event {
    Event::Attach {
        producer: producer(),
        remote_address: "10.0.0.1:50000".into(),
        info: PeerInfo::default(),
        at: 1,
    }
}

pub fn claim(topic: &str, channel: Option<&str>) -> Event {
    Event::Claim {
        producer: producer(),
        topic: topic.into(),
        channel: channel.map(Into::into),
    }
}

pub fn release(topic: &str) -> Event {
    Event::Release {
        producer: producer(),
        topic: topic.into(),
        channel: None,
    }
}

/// Copies a folder and its contents.
pub fn copy_folder(from: &Path, to: &Path) {
    try_copy_folder(from, to).unwrap();
}

/// Copies the data path of an open store that is not being written to: what a kill would leave now.
/// Files may still be removed or replaced in the background.
pub fn copy_alive(from: &Path, to: &Path) {
    while try_copy_folder(from, to).is_err() {
        std::fs::remove_dir_all(to).unwrap();
    }
}

fn try_copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
