//! What clients did and saw, and whether one nsqlookupd could have answered so. PURE.
//!
//! Each topic has one writer, which waits for each answer: an nsqd that registers and unregisters
//! it. So a topic is a single-writer register of one bit, and a history of it is linearizable
//! exactly if every read shows a value that was possible while it lasted, and no read shows an
//! older write than one that had ended before it began.
//!
//! A write whose outcome is unknown (`E_UNAVAILABLE`, a broken connection) may take effect at any
//! time until the next acknowledged write, or never.

use std::collections::BTreeMap;
use std::time::Duration;

/// Since the beginning of the run.
pub type At = Duration;

/// A REGISTER (`listed`) or UNREGISTER.
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

/// Everything that happened to one topic. Not listed before the first write.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
}

/// All topics.
#[derive(Debug, Default)]
pub struct History(pub BTreeMap<String, Topic>);

impl History {
    /// What no single nsqlookupd could have answered.
    pub fn violations(&self) -> Vec<String> {
        let all = self.0.iter();
        all.flat_map(|(name, topic)| {
            let found = topic.violations().into_iter();
            found.map(move |violation| format!("{name}: {violation}"))
        })
        .collect()
    }
}

impl Topic {
    fn violations(&self) -> Vec<String> {
        let mut reads = self.reads.clone();
        reads.sort_by_key(|read| read.began);
        let mut violations = Vec::new();
        // (ended, the oldest write that it can have shown)
        let mut shown: Vec<(At, usize)> = Vec::new();
        for read in reads {
            let seen = shown.iter().filter(|(ended, _)| *ended <= read.began);
            let not_before = seen.map(|(_, write)| *write).max().unwrap_or(0);
            match self.oldest_possible(&read, not_before) {
                Some(write) => shown.push((read.ended, write)),
                None => violations.push(format!("{read:?} but {:?}", self.around(&read))),
            }
        }
        violations
    }

    /// The oldest write, counted from 1 (0: none), that this read can have shown.
    fn oldest_possible(&self, read: &Read, not_before: usize) -> Option<usize> {
        let settled = self
            .writes
            .iter()
            .rposition(|write| write.acknowledged.is_some_and(|at| at <= read.began))
            .map_or(0, |write| write + 1);
        let begun = self
            .writes
            .iter()
            .filter(|write| write.began <= read.ended)
            .count();
        let value = |write: usize| write > 0 && self.writes[write - 1].listed;
        // Those before the last settled write that are unknown have been settled with it.
        (settled.max(not_before)..=begun).find(|write| value(*write) == read.listed)
    }

    fn around(&self, read: &Read) -> Vec<Write> {
        let near = |at: At| at + Duration::from_secs(2) > read.began && at < read.ended;
        let writes = self.writes.iter();
        writes.filter(|write| near(write.began)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> At {
        Duration::from_millis(at)
    }

    fn write(listed: bool, began: u64, acknowledged: Option<u64>) -> Write {
        Write {
            listed,
            began: ms(began),
            acknowledged: acknowledged.map(ms),
        }
    }

    fn read(listed: bool, began: u64, ended: u64) -> Read {
        Read {
            listed,
            began: ms(began),
            ended: ms(ended),
            member: 0,
        }
    }

    #[track_caller]
    fn check(writes: &[Write], reads: &[Read], violations: usize) {
        let topic = Topic {
            writes: writes.to_vec(),
            reads: reads.to_vec(),
        };
        let found = topic.violations();
        assert_eq!(found.len(), violations, "{found:#?}");
    }

    #[test]
    fn an_acknowledged_registration_is_seen_by_every_later_read() {
        let writes = [write(true, 10, Some(20))];
        check(&writes, &[read(false, 0, 5), read(true, 21, 22)], 0);
        check(&writes, &[read(false, 21, 22)], 1);
        check(&writes, &[read(true, 0, 5)], 1);
    }

    #[test]
    fn a_read_during_a_write_may_show_either() {
        let writes = [write(true, 10, Some(20)), write(false, 30, Some(40))];
        for listed in [true, false] {
            check(&writes, &[read(listed, 12, 15)], 0);
            check(&writes, &[read(listed, 12, 35)], 0);
        }
        check(&writes, &[read(true, 41, 42)], 1);
    }

    #[test]
    fn what_was_seen_is_not_unseen() {
        let writes = [write(true, 10, Some(50))];
        check(&writes, &[read(true, 12, 15), read(true, 20, 22)], 0);
        check(&writes, &[read(true, 12, 15), read(false, 20, 22)], 1);
        check(&writes, &[read(true, 12, 25), read(false, 20, 22)], 0);
    }

    #[test]
    fn an_unknown_write_may_show_until_the_next_is_acknowledged() {
        let writes = [write(true, 10, None), write(false, 50, Some(60))];
        for listed in [true, false] {
            check(&writes, &[read(listed, 30, 31)], 0);
        }
        check(&writes, &[read(true, 61, 62)], 1);
    }
}
