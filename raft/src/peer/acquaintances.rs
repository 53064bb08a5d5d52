//! Remembers the processes that speak for the other members, and what they have promised. PURE.
//!
//! Of two processes with one node id at most one may vote, acknowledge or lead. A member listens to
//! the one that is reached at the member's address, and to no other; and only if that one remembers
//! what this member remembers of it.

use std::collections::BTreeMap;

use raftlookupd_storage::registration::MemberId;
use serde::{Deserialize, Serialize};

use crate::peer::lineage::{Known, Promises};

/// A member as this one knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acquaintance {
    /// Its name.
    pub(crate) name: String,
    /// Where it was reached.
    pub(crate) address: String,
    /// The process that was reached there.
    pub(crate) start: u64,
    /// What that process has promised to this member.
    pub(crate) promised: Promises,
}

/// All members that this one has dealt with, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored(BTreeMap<MemberId, Acquaintance>);

/// Those members, and which of them were reached since this process has started.
#[derive(Debug, Default)]
pub(crate) struct Acquaintances {
    stored: Stored,
    reached: BTreeMap<MemberId, u64>,
}

impl Acquaintances {
    /// As they were stored.
    pub(crate) fn from_stored(stored: Stored) -> Self {
        Acquaintances {
            stored,
            reached: BTreeMap::new(),
        }
    }

    /// To be stored.
    pub(crate) fn to_stored(&self) -> Stored {
        self.stored.clone()
    }

    /// A member that was met before.
    pub(crate) fn get(&self, id: MemberId) -> Option<&Acquaintance> {
        self.stored.0.get(&id)
    }

    /// All members that were met.
    pub(crate) fn all(&self) -> impl Iterator<Item = (MemberId, &Acquaintance)> {
        self.stored.0.iter().map(|(id, met)| (*id, met))
    }

    /// What a member must remember, given the incarnation that the registry records of it.
    pub(crate) fn known(&self, id: MemberId, incarnation: u64) -> Option<Known> {
        let met = self.get(id)?;
        Some(Known {
            id,
            start: met.start,
            promised: met.promised,
            incarnation,
        })
    }

    /// Whether this process speaks for the member.
    pub(crate) fn speaks(&self, id: MemberId, start: u64) -> bool {
        self.reached.get(&id) == Some(&start)
    }

    /// Notes the process that was reached at a member's address, and that remembered what it had to.
    /// Whether that is new, and must be stored before the process is listened to.
    pub(crate) fn note(&mut self, id: MemberId, start: u64, name: &str, address: &str) -> bool {
        let met = self.get(id);
        let same = met.filter(|met| met.start == start);
        if same.is_some_and(|met| met.address == address) {
            return false;
        }
        let met = Acquaintance {
            name: name.into(),
            address: address.into(),
            start,
            promised: same.map(|met| met.promised).unwrap_or_default(),
        };
        self.stored.0.insert(id, met);
        true
    }

    /// Listens to a process that was noted. Its predecessor no longer speaks for the member.
    pub(crate) fn reached(&mut self, id: MemberId, start: u64) {
        self.reached.insert(id, start);
    }

    /// Notes what the process that speaks for a member has promised. Whether it is new.
    pub(crate) fn promised(&mut self, id: MemberId, promised: Promises) -> bool {
        let Some(met) = self.stored.0.get_mut(&id) else {
            return false;
        };
        let grows = promised > met.promised;
        met.promised = met.promised.max(promised);
        grows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_the_process_at_its_address() {
        let mut peers = Acquaintances::default();
        assert!(!peers.speaks(2, 7) && peers.known(2, 0).is_none());
        assert!(peers.note(2, 7, "b", "b:1") && !peers.speaks(2, 7));
        peers.reached(2, 7);
        assert!(peers.speaks(2, 7) && !peers.speaks(2, 8));
        let promised = Promises { term: 3, next: 9 };
        assert!(peers.promised(2, promised) && !peers.promised(2, promised));
        assert!(!peers.promised(2, Promises { term: 2, next: 90 }));
        let known = peers.known(2, 5).unwrap();
        assert_eq!((known.start, known.promised), (7, promised));
        assert!(!peers.note(2, 7, "b", "b:1") && peers.note(2, 7, "b", "b:2"));

        // A restart of this member: the same process must be reached again.
        let mut later = Acquaintances::from_stored(peers.to_stored());
        assert!(!later.speaks(2, 7));
        assert!(!later.note(2, 7, "b", "b:2"));
        later.reached(2, 7);
        assert_eq!(later.known(2, 5).unwrap().promised, promised);
        // A restart of the other.
        assert!(later.note(2, 8, "b", "b:1"));
        later.reached(2, 8);
        assert!(later.speaks(2, 8) && !later.speaks(2, 7));
        assert_eq!(later.known(2, 5).unwrap().promised, Promises::default());
    }
}

#[cfg(test)]
mod model;
