//! What must fit together when a log is opened.
//!
//! A damaged database can open without a word and with rows missing, so nothing is
//! taken for granted that was promised before: no hole, no entry less than the durable
//! mark says, no older vote.

use super::durable_mark::Mark;
use super::state::State;
use super::{Inner, PURGED_KEY, StoredVote};
use crate::encoding::decode;
use crate::error::{Error, Result};
use crate::record_file::Damage;

impl Inner {
    /// Reads all entries above the purge point.
    pub(super) fn read_and_check(&self) -> Result<State> {
        let mut state = State {
            purged: self.read_purge_point()?,
            ..State::default()
        };
        // A purge may have been interrupted.
        state.sweep = state.purged.is_some();
        let first = state.first_possible();
        let mut expected = first;
        self.scan(first, None, |index, bytes| {
            if index != expected {
                return Err(self.missing(expected));
            }
            state.add(index, bytes.len());
            expected = index.saturating_add(1);
            Ok(true)
        })?;
        let mark = self.mark.get();
        check_vote(self.vote()?, mark).map_err(|what| self.damage(what))?;
        check_end(state.end(), mark).map_err(|what| self.damage(what))?;
        state.synced = state.end();
        Ok(state)
    }

    fn read_purge_point(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let stored = self.get_meta(PURGED_KEY)?;
        stored
            .map(|stored| decode("the purge point", &stored))
            .transpose()
    }

    /// The bytes of an entry that was put together.
    pub(super) fn intact(
        &self,
        index: u64,
        entry: std::result::Result<Vec<u8>, Damage>,
    ) -> Result<Vec<u8>> {
        entry.map_err(|damage| self.damage(format!("log entry {index} {damage}")))
    }

    pub(super) fn missing(&self, index: u64) -> Error {
        self.damage(format!("log entry {index} is missing"))
    }

    pub(super) fn damage(&self, what: impl Into<String>) -> Error {
        Error::corrupt(self.engine.data_path(), what)
    }
}

fn check_vote(vote: Option<StoredVote>, mark: Mark) -> std::result::Result<(), String> {
    if vote >= mark.vote {
        return Ok(());
    }
    Err(format!(
        "the vote went back from {} to {}",
        describe(mark.vote),
        describe(vote)
    ))
}

fn describe(vote: Option<StoredVote>) -> String {
    match vote {
        None => "none".into(),
        Some(vote) => format!("term {} for node {}", vote.term, vote.node_id),
    }
}

fn check_end(end: Option<u64>, mark: Mark) -> std::result::Result<(), String> {
    match (mark.last, end) {
        (Some(durable), Some(end)) if end < durable => Err(format!(
            "entries up to {durable} were durable, the log ends at {end}"
        )),
        (Some(durable), None) => Err(format!(
            "entries up to {durable} were durable, the log is empty"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64, committed: bool) -> Option<StoredVote> {
        Some(StoredVote {
            term,
            node_id: 2,
            committed,
        })
    }

    #[test]
    fn a_vote_may_be_newer_than_the_mark_but_not_older() {
        let marked = Mark {
            vote: vote(5, false),
            last: None,
        };
        for newer in [vote(5, false), vote(5, true), vote(6, false)] {
            assert_eq!(check_vote(newer, marked), Ok(()));
        }
        for (older, text) in [
            (vote(4, true), "from term 5 for node 2 to term 4 for node 2"),
            (None, "from term 5 for node 2 to none"),
        ] {
            let what = check_vote(older, marked).unwrap_err();
            assert_eq!(what, format!("the vote went back {text}"));
        }
        assert_eq!(check_vote(None, Mark::default()), Ok(()));
    }

    #[test]
    fn the_log_may_be_longer_than_the_mark_but_not_shorter() {
        let marked = Mark {
            vote: None,
            last: Some(7),
        };
        assert_eq!(check_end(Some(7), marked), Ok(()));
        assert_eq!(check_end(Some(8), marked), Ok(()));
        assert!(check_end(Some(6), marked).is_err());
        assert!(check_end(None, marked).is_err());
        assert_eq!(check_end(None, Mark::default()), Ok(()));
    }
}
