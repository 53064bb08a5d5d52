//! Remembers what has changed in the registry since it was last written. PURE.

use std::collections::{BTreeMap, HashMap};

use crate::registry::db::{Change, RegistrationDb};
use crate::registry::rows::RowChange;

/// The number of changes that are always accumulated. A crash loses none of them, since the log
/// replays them, and a topic that changes often meanwhile is written once.
const ENOUGH: usize = 1024;

/// A topic is written as a whole: for each change, at most this many rows are written.
const ROWS_PER_CHANGE: usize = 8;

/// The most changes that are accumulated, however large the topics are.
const MOST: usize = 256 * 1024;

/// The topics and other rows that have changed.
#[derive(Default)]
pub(super) struct Unwritten {
    /// How far the log is applied; `None` if nothing has changed.
    mark: Option<Vec<u8>>,
    topics: HashMap<String, Since>,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    changes: usize,
    /// The number of changes that makes writing worthwhile, as computed last.
    due: Option<usize>,
}

/// Whether the tables have a topic that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// They may have it.
    Before,
    /// They do not have it: it was created since they were last written.
    Now,
}

/// What has to be written.
pub(super) struct Taken {
    pub(super) mark: Vec<u8>,
    pub(super) topics: HashMap<String, Since>,
    pub(super) rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Unwritten {
    /// Notes changes, with the log position that they lead to.
    pub(super) fn note(&mut self, changes: Vec<Change>, mark: &[u8]) {
        self.mark = Some(mark.to_vec());
        self.changes += changes.len();
        for change in changes {
            match change {
                Change::Topic { name, .. } if self.topics.contains_key(&*name) => {}
                Change::Topic { name, created } => {
                    // One that was there would have to be deleted first.
                    let since = match created {
                        true => Since::Now,
                        false => Since::Before,
                    };
                    self.topics.insert(name.to_string(), since);
                }
                Change::Row(RowChange { key, value }) => drop(self.rows.insert(key, value)),
            }
        }
    }

    /// Whether there is enough to write.
    pub(super) fn is_due(&mut self, db: &RegistrationDb) -> bool {
        if self.changes < self.due.unwrap_or(ENOUGH) {
            return false;
        }
        let rows: usize = self.topics.keys().map(|topic| db.rows_of(topic)).sum();
        let due = (rows / ROWS_PER_CHANGE).clamp(ENOUGH, MOST);
        self.due = Some(due);
        self.changes >= due
    }

    /// Takes everything; `None` if nothing has changed.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let Unwritten {
            mark, topics, rows, ..
        } = std::mem::take(self);
        Some(Taken {
            mark: mark?,
            topics,
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::event::{Event, MemberBatch, Proposal};

    /// Creates channels, one event at a time, until writing is due. Returns the number of changes.
    fn create_until_due(
        db: &mut RegistrationDb,
        unwritten: &mut Unwritten,
        channels: impl Iterator<Item = (String, String)>,
    ) -> Option<usize> {
        let mut changes = 0;
        for (topic, channel) in channels {
            let sequence = db.member(1).map_or(0, |member| member.sequence) + 1;
            changes += create(db, unwritten, sequence, vec![(topic, channel)]);
            if unwritten.is_due(db) {
                return Some(changes);
            }
        }
        None
    }

    fn create(
        db: &mut RegistrationDb,
        unwritten: &mut Unwritten,
        sequence: u64,
        channels: Vec<(String, String)>,
    ) -> usize {
        let events = channels.into_iter();
        let events = events.map(|(topic, channel)| Event::CreateChannel { topic, channel });
        let batch = MemberBatch {
            member: 1,
            incarnation: 1,
            sequence,
            at: 0,
            events: events.collect(),
        };
        let proposal = Proposal {
            batches: vec![batch],
            ..Proposal::default()
        };
        let applied = db.apply(&proposal).unwrap();
        let changes = applied.changes.len();
        unwritten.note(applied.changes, &sequence.to_be_bytes());
        changes
    }

    #[test]
    fn small_topics_are_written_soon() {
        let (mut db, mut unwritten) = (RegistrationDb::new(), Unwritten::default());
        let topics = (0..5000).map(|number| (format!("topic-{number}"), "channel".into()));
        let due = create_until_due(&mut db, &mut unwritten, topics).unwrap();
        assert!((ENOUGH..ENOUGH + 10).contains(&due), "{due}");
        let taken = unwritten.take().unwrap();
        assert!(taken.topics.len() > 300 && taken.rows.len() == 1);
        assert!(unwritten.take().is_none());
    }

    #[test]
    fn large_topics_are_written_seldom() {
        let (mut db, mut unwritten) = (RegistrationDb::new(), Unwritten::default());
        let channels = |numbers: std::ops::Range<u32>| {
            numbers.map(|number| ("large".to_string(), format!("channel-{number}")))
        };
        let large = channels(0..16_000).collect();
        create(&mut db, &mut unwritten, 1, large);
        unwritten.take();
        let more = channels(16_000..30_000);
        let due = create_until_due(&mut db, &mut unwritten, more).unwrap();
        assert!(due > 2 * ENOUGH, "{due}");
    }
}
