//! Counts what the owner keeps, for metrics.

use raftlookupd_raft::storage::registration_db::RegistrationDb;

use super::state::Owner;

/// The size of what the owner keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open sessions.
    pub sessions: usize,
    /// Sessions beyond the first of their producer.
    pub surplus_sessions: usize,
    /// Bytes of undecided changes.
    pub undecided_bytes: usize,
    /// Differences that routine checks have found and repaired.
    pub repairs: u64,
    /// Attachments of earlier incarnations.
    pub inherited: usize,
}

impl Owner {
    /// Counts everything, and attachments if the registry has loaded.
    pub fn counts(&self, db: Option<&RegistrationDb>) -> Counts {
        let with_sessions = self.producers.values();
        let with_sessions = with_sessions.filter(|producer| !producer.sessions.is_empty());
        let inherited = self.me.zip(db);
        Counts {
            sessions: self.sessions.len(),
            surplus_sessions: self.sessions.len() - with_sessions.count(),
            undecided_bytes: self.undecided_bytes,
            repairs: self.repairs,
            inherited: inherited.map_or(0, |(me, db)| db.inherited(me.member, me.incarnation)),
        }
    }
}
