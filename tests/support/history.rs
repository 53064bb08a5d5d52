//! What clients did and saw, and whether one nsqlookupd could have answered so. PURE.
//!
//! An *item* is a producer of a topic, or a topic as such. Each has one writer, which waits for
//! each answer: the nsqd that registers and unregisters the topic, or the operator who creates and
//! deletes it. So an item is a single-writer register of one bit, and its history is linearizable
//! exactly if every read shows a value that was possible while it lasted, and no read shows an
//! older write than one that had ended before it began. (A general search, as checkers for several
//! writers do it, is not needed; linearizability of each item is that of all of them.)
//!
//! A write whose outcome is unknown (`E_UNAVAILABLE`, a broken connection) may take effect at any
//! time until the next acknowledged write, or never. A broken connection is such a write, too: the
//! member may have noticed it or not. Not so if it broke since the member's process ended, which
//! must not take anything away. A write that was refused (503) is none, so its effect would
//! be a violation.
//!
//! An nsqd with several sessions has one writer, too, and [`listing`](super::listing) says what its
//! sessions mean together. The end of an nsqd is a write that is acknowledged when it must have
//! taken effect at the latest.
//!
//! Not covered: channels, and that the producers in one answer belong together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// Since the beginning of the run.
pub type At = Duration;

/// What is to be listed from now on, or not any more.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    pub listed: bool,
    pub began: At,
    /// `None`: the outcome is unknown.
    pub acknowledged: Option<At>,
}

/// A lookup that was not marked stale.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub listed: bool,
    pub began: At,
    pub ended: At,
    /// Where it was answered; for the report.
    pub member: usize,
}

/// Everything that happened to one item. Not listed before the first write.
#[derive(Debug, Clone, Default)]
pub struct Item {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
}

/// All items, by their names.
#[derive(Debug, Default)]
pub struct History(pub BTreeMap<String, Item>);

impl History {
    /// What no single nsqlookupd could have answered.
    pub fn violations(&self) -> Vec<String> {
        let all = self.0.iter();
        all.flat_map(|(name, item)| {
            let found = item.violations().into_iter();
            found.map(move |violation| format!("{name}: {violation}"))
        })
        .collect()
    }
}

impl Item {
    /// What was read that no single nsqlookupd could have answered.
    pub fn violations(&self) -> Vec<String> {
        let mut reads = self.reads.clone();
        reads.sort_by_key(|read| read.began);
        // The writer waits for each answer, so both of these are in order.
        let acknowledged: Vec<(At, usize)> = (1..)
            .zip(&self.writes)
            .filter_map(|(number, write)| Some((write.acknowledged?, number)))
            .collect();
        let mut violations = Vec::new();
        // Reads that have not ended when the next begins: (ended, the oldest write they can show).
        let mut open: BinaryHeap<Reverse<(At, usize)>> = BinaryHeap::new();
        let mut seen = 0;
        for read in reads {
            while let Some(Reverse((ended, write))) = open.peek().copied() {
                if ended > read.began {
                    break;
                }
                seen = seen.max(write);
                open.pop();
            }
            let settled = acknowledged.partition_point(|(at, _)| *at <= read.began);
            let settled = settled
                .checked_sub(1)
                .map_or(0, |last| acknowledged[last].1);
            let begun = self
                .writes
                .partition_point(|write| write.began <= read.ended);
            let value = |write: usize| write > 0 && self.writes[write - 1].listed;
            // The unknown ones before the last that was acknowledged are settled with it.
            let shows = (settled.max(seen)..=begun).find(|write| value(*write) == read.listed);
            match shows {
                Some(write) => open.push(Reverse((read.ended, write))),
                None => violations.push(format!("{read:?} but {:?}", self.around(&read))),
            }
        }
        violations
    }

    /// The writes before and during a read; for the report.
    fn around(&self, read: &Read) -> &[Write] {
        let begun = self
            .writes
            .partition_point(|write| write.began <= read.ended);
        &self.writes[begun.saturating_sub(5)..begun]
    }
}
