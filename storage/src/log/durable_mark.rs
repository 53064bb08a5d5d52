//! Stores the vote, and the index up to which entries were durable.
//!
//! The mark has a file of its own because damage at the end of the log looks like an interrupted
//! write, which is cut off. A member that continued from there would break promises that it has
//! made to others.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::disk::record_file::RecordFile;
use crate::encoding::{decode, encode};
use crate::error::Result;

/// The file's name in the data path.
pub(crate) const FILE: &str = "durable-mark";

/// A vote: the promise to support a leader, or the claim to be one.
///
/// Ordered as in Raft: a member's vote only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoredVote {
    /// The term.
    pub term: u64,
    /// The candidate.
    pub node_id: u64,
    /// Whether a quorum granted it.
    pub committed: bool,
}

/// The contents of the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The last vote.
    pub(crate) vote: Option<StoredVote>,
    /// Entries up to this index were durable. There may be more by now, never fewer.
    pub(crate) last: Option<u64>,
}

struct Written {
    mark: Mark,
    /// A write has failed, so the file holds either the old or the new contents.
    uncertain: bool,
}

/// The record file and its contents.
pub(crate) struct DurableMark {
    file: RecordFile,
    written: Mutex<Written>,
    /// A copy of `written.mark.last`, to be read while the record is being written.
    last: AtomicIndex,
}

impl DurableMark {
    /// Reads the record; `None` if there is none.
    pub(crate) fn load(data_path: &Path) -> Result<Option<DurableMark>> {
        let file = RecordFile::new(data_path.join(FILE));
        let Some(bytes) = file.load()? else {
            return Ok(None);
        };
        Ok(Some(DurableMark::new(
            file,
            decode("the durable mark", &bytes)?,
        )))
    }

    /// Writes a record that promises nothing yet.
    pub(crate) fn create(data_path: &Path) -> Result<DurableMark> {
        let mark = DurableMark::new(RecordFile::new(data_path.join(FILE)), Mark::default());
        mark.update(|_| true)?;
        Ok(mark)
    }

    fn new(file: RecordFile, written: Mark) -> DurableMark {
        DurableMark {
            file,
            last: AtomicIndex::new(written.last),
            written: Mutex::new(Written {
                mark: written,
                uncertain: false,
            }),
        }
    }

    /// Whether the record lags behind this durable index.
    pub(crate) fn is_behind(&self, durable: Option<u64>) -> bool {
        self.last.get() < durable
    }

    /// The contents of the record.
    pub(crate) fn get(&self) -> Mark {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.mark
    }

    /// Replaces the vote.
    pub(crate) fn set_vote(&self, vote: StoredVote) -> Result<()> {
        self.update(|mark| {
            let before = mark.vote.replace(vote);
            debug_assert!(
                before.is_none_or(|before| before.term <= vote.term),
                "a vote for term {} follows one for a later term",
                vote.term
            );
            before != Some(vote)
        })
    }

    /// Raises the last index to `durable`, which is called under the lock, so that a truncation
    /// cannot be overtaken by an older value.
    pub(crate) fn raise(&self, durable: impl FnOnce() -> Option<u64>) -> Result<()> {
        self.update(|mark| {
            let durable = durable();
            let grows = durable > mark.last;
            mark.last = durable.max(mark.last);
            grows
        })
    }

    /// Lowers the last index, before entries from `from` on are removed.
    pub(crate) fn lower(&self, from: u64) -> Result<()> {
        self.update(|mark| {
            let shrinks = mark.last.is_some_and(|last| last >= from);
            if shrinks {
                mark.last = from.checked_sub(1);
            }
            debug_assert!(mark.last < Some(from), "the mark promises what is removed");
            shrinks
        })
    }

    fn update(&self, change: impl FnOnce(&mut Mark) -> bool) -> Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mark = written.mark;
        if change(&mut mark) || written.uncertain {
            let bytes = encode("the durable mark", &mark)?;
            written.uncertain = true;
            self.file.save(&bytes)?;
            *written = Written {
                mark,
                uncertain: false,
            };
            self.last.set(mark.last);
        }
        Ok(())
    }
}

/// The index of an entry, or none: one more than the index, and zero.
struct AtomicIndex(AtomicU64);

impl AtomicIndex {
    fn new(index: Option<u64>) -> AtomicIndex {
        let number = AtomicIndex(AtomicU64::new(0));
        number.set(index);
        number
    }

    fn get(&self) -> Option<u64> {
        self.0.load(Ordering::Acquire).checked_sub(1)
    }

    fn set(&self, index: Option<u64>) {
        let number = index.map_or(0, |index| index.saturating_add(1));
        self.0.store(number, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64) -> StoredVote {
        StoredVote {
            term,
            node_id: 1,
            committed: false,
        }
    }

    #[test]
    fn says_what_was_written_last() {
        let folder = tempfile::tempdir().unwrap();
        assert!(DurableMark::load(folder.path()).unwrap().is_none());
        let mark = DurableMark::create(folder.path()).unwrap();
        mark.set_vote(vote(3)).unwrap();
        mark.raise(|| Some(9)).unwrap();
        mark.raise(|| Some(7)).unwrap();
        mark.raise(|| None).unwrap();
        assert!(mark.is_behind(Some(10)) && !mark.is_behind(Some(9)) && !mark.is_behind(None));
        let expect = |last| {
            let expected = Mark {
                vote: Some(vote(3)),
                last,
            };
            let stored = DurableMark::load(folder.path()).unwrap().unwrap();
            assert_eq!((mark.get(), stored.get()), (expected, expected));
        };
        expect(Some(9));
        mark.lower(12).unwrap();
        expect(Some(9));
        mark.lower(5).unwrap();
        expect(Some(4));
        mark.lower(0).unwrap();
        expect(None);
    }

    #[test]
    fn after_a_failure_it_is_written_whether_or_not_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let mark = DurableMark::create(folder.path()).unwrap();
        mark.raise(|| Some(4)).unwrap();
        let in_the_way = folder.path().join("durable-mark.tmp");
        std::fs::create_dir(&in_the_way).unwrap();
        mark.lower(6).unwrap();
        // For all we know the file says 9 now.
        mark.raise(|| Some(9)).unwrap_err();
        assert_eq!(mark.get().last, Some(4));
        mark.lower(6).unwrap_err();
        std::fs::remove_dir(&in_the_way).unwrap();
        mark.lower(6).unwrap();
        std::fs::create_dir(&in_the_way).unwrap();
        mark.lower(6).unwrap();
    }
}
