//! Decides whether a data path is what it once was: the starts that it remembers, and what each
//! found. PURE.
//!
//! A member keeps promises: votes that it has granted, entries that it has acknowledged. A data path
//! that was put back to an older copy has forgotten some of them, and looks like any other. So every
//! start draws a random id, and records it with the promises that it found. Peers remember the id of
//! the process that they last dealt with, and what it promised to them; what a data path does not
//! know of that, it has forgotten.

use raftlookupd_storage::registration::MemberId;
use serde::{Deserialize, Serialize};

/// The most starts that are remembered. A peer that has not met any of them in all that time takes
/// the data path for a copy.
const MOST_STARTS: usize = 20_000;

/// What a member has promised. Ordered by age: the index counts within one term only, since a
/// leader of a later term may have had entries replaced.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct Promises {
    /// The term of its last vote.
    pub(crate) term: u64,
    /// Its log has all entries before this index.
    pub(crate) next: u64,
}

/// One start of a process on a data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    /// Drawn at random.
    id: u64,
    /// What earlier starts had left on the disk.
    found: Promises,
}

/// The starts of a data path, the last of which is this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lineage {
    starts: Vec<Start>,
}

/// What a peer remembers of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The member.
    pub(crate) id: MemberId,
    /// The start that it dealt with last.
    pub(crate) start: u64,
    /// What that start has promised to it.
    pub(crate) promised: Promises,
    /// The incarnation of the member that the registry records.
    pub(crate) incarnation: u64,
}

impl Lineage {
    /// Notes a start, and what it found.
    pub(crate) fn begin(&mut self, id: u64, found: Promises) {
        self.starts.push(Start { id, found });
        if self.starts.len() > MOST_STARTS {
            self.starts.remove(0);
        }
    }

    /// The id of the last start.
    pub(crate) fn current(&self) -> Option<u64> {
        self.starts.last().map(|start| start.id)
    }

    /// Whether the data path has what a peer remembers of it. What a start has promised must be
    /// there when the next one begins.
    pub(crate) fn remembers(&self, known: &Known) -> bool {
        let position = self.starts.iter().position(|start| start.id == known.start);
        let Some(position) = position else {
            return false;
        };
        let later = self.starts.iter().skip(position + 1);
        later.take(1).all(|next| next.found >= known.promised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promises(term: u64, next: u64) -> Promises {
        Promises { term, next }
    }

    fn known(start: u64, promised: Promises) -> Known {
        Known {
            id: 1,
            start,
            promised,
            incarnation: 0,
        }
    }

    #[test]
    fn what_a_start_has_promised_is_there_at_the_next() {
        let mut lineage = Lineage::default();
        lineage.begin(11, Promises::default());
        lineage.begin(12, promises(3, 100));
        lineage.begin(13, promises(4, 90));
        assert_eq!(lineage.current(), Some(13));
        for (start, promised, remembered) in [
            (11, promises(3, 100), true),
            (11, promises(3, 101), false),
            (11, promises(2, 500), true),
            (11, promises(4, 1), false),
            (12, promises(3, 500), true),
            (12, promises(4, 91), false),
            // It runs, and knows best.
            (13, promises(9, 900), true),
            (14, Promises::default(), false),
        ] {
            let known = known(start, promised);
            assert_eq!(lineage.remembers(&known), remembered, "{known:?}");
        }
    }

    #[test]
    fn two_starts_from_one_copy_differ() {
        let mut copy = Lineage::default();
        copy.begin(11, Promises::default());
        let mut original = copy.clone();
        original.begin(12, promises(1, 5));
        copy.begin(13, promises(1, 5));
        assert!(!copy.remembers(&known(12, Promises::default())));
        assert!(original.remembers(&known(12, Promises::default())));
    }

    #[test]
    fn only_so_many_starts_are_remembered() {
        let mut lineage = Lineage::default();
        for id in 0..=MOST_STARTS as u64 {
            lineage.begin(id, Promises::default());
        }
        assert_eq!(lineage.starts.len(), MOST_STARTS);
        assert!(!lineage.remembers(&known(0, Promises::default())));
        assert!(lineage.remembers(&known(1, Promises::default())));
    }
}
