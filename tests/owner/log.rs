//! The log that the members agree on: what is committed, and the registry that it makes.

use std::rc::Rc;

use raftlookupd_raft::storage::event::{BatchResult, MemberBatch, Proposal};
use raftlookupd_raft::storage::registration_db::RegistrationDb;

#[derive(Default)]
pub struct Log {
    entries: Vec<Rc<Proposal>>,
    /// The registry's hash after each entry.
    hashes: Vec<u128>,
    /// All entries applied.
    pub registry: RegistrationDb,
}

/// The rows of a registry, as on disk or in a snapshot.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

impl Log {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn entry(&self, index: usize) -> Rc<Proposal> {
        self.entries[index].clone()
    }

    /// The registry's hash when this many entries are applied.
    pub fn hash_at(&self, applied: usize) -> u128 {
        match applied {
            0 => RegistrationDb::new().state_hash(),
            applied => self.hashes[applied - 1],
        }
    }

    pub fn commit(&mut self, entry: Rc<Proposal>) -> Vec<BatchResult> {
        let applied = self.registry.apply(&entry).expect("the registry is usable");
        self.hashes.push(self.registry.state_hash());
        self.entries.push(entry);
        applied.results
    }

    /// Whether a batch would be applied, and not recognised as an old one.
    pub fn is_news(&self, batch: &MemberBatch) -> bool {
        let known = self.registry.member(batch.member);
        known.is_none_or(|known| {
            let last = (known.incarnation, known.sequence);
            !known.removed && (batch.incarnation, batch.sequence) > last
        })
    }
}

pub fn rows_of(db: &RegistrationDb) -> Rows {
    db.rows()
        .map(|row| (row.key(), row.value().expect("a row has a value")))
        .collect()
}

pub fn load(rows: &Rows) -> RegistrationDb {
    let rows = rows.iter().cloned().map(Ok);
    RegistrationDb::from_rows(rows).expect("rows make a registry")
}
