//! Replays a segment's records into the log's state. PURE.

use super::record::{Damage, Position, Record};
use super::state::{Place, State};

/// The result of replaying a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replayed {
    /// The end of the last complete record, in bytes.
    pub(super) end: u64,
    /// What is wrong with the bytes behind it; `None` if there are only zeros, or nothing.
    pub(super) behind: Option<Damage>,
    /// The number of bytes behind the last record, without trailing zeros.
    pub(super) left_over: u64,
}

/// Replays the segment of that number into `state`, which has replayed all segments before it.
///
/// # Errors
/// What is inconsistent, in one clause. A record that fails its checksum ends the segment: the last
/// one may have been torn by a crash.
pub(super) fn replay(state: &mut State, number: u64, stored: &[u8]) -> Result<Replayed, String> {
    let mut end = 0;
    let behind = loop {
        let position = Position {
            segment: number,
            offset: end as u64,
        };
        match Record::read(position, &stored[end..]) {
            Ok(Some((record, length))) => {
                let is_head = record == Record::Head { number };
                if is_head != (end == 0) {
                    return Err("its head is misplaced".into());
                }
                take(state, position, record)?;
                end += length;
            }
            Ok(None) => break None,
            Err(Damage::Unknown) => {
                return Err(format!("the record at byte {end} is of an unknown kind"));
            }
            Err(damage) => break Some(damage),
        }
    };
    if end == 0 {
        // The head was durable before the file got its name.
        return Err("its head is missing".into());
    }
    let zeros = stored[end..].iter().rev().take_while(|byte| **byte == 0);
    let left_over = stored.len() - end - zeros.count();
    Ok(Replayed {
        end: end as u64,
        behind: behind.or((left_over > 0).then_some(Damage::Checksum)),
        left_over: left_over as u64,
    })
}

fn take(state: &mut State, position: Position, record: Record<'_>) -> Result<(), String> {
    match record {
        Record::Head { .. } => {}
        Record::Entry { index, bytes } => {
            if let Some(end) = state.end().filter(|end| *end >= index) {
                return Err(format!("entry {index} follows entry {end}"));
            }
            let bytes = bytes.len();
            state.add(index, Place { position, bytes });
        }
        Record::Truncated { from } => state.truncate(from),
        Record::Purged { upto, point } => state.purge(upto, point.to_vec()),
        Record::Committed(bytes) => state.committed = Some(bytes.to_vec()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(records: &[Record<'_>]) -> Vec<u8> {
        let mut stored = Vec::new();
        for record in records {
            let position = Position {
                segment: 1,
                offset: stored.len() as u64,
            };
            record.write(position, &mut stored);
        }
        stored
    }

    fn entry(index: u64) -> Record<'static> {
        Record::Entry {
            index,
            bytes: b"entry",
        }
    }

    const HEAD: Record<'_> = Record::Head { number: 1 };

    #[test]
    fn later_records_count_more() {
        let mut state = State::default();
        let mut stored = segment(&[
            HEAD,
            entry(0),
            entry(1),
            entry(2),
            Record::Truncated { from: 1 },
            entry(1),
            Record::Committed(b"0"),
            Record::Purged {
                upto: 0,
                point: b"zero",
            },
            Record::Committed(b"1"),
        ]);
        let end = stored.len() as u64;
        stored.extend_from_slice(&[0; 100]);
        let replayed = replay(&mut state, 1, &stored).unwrap();
        let expected = Replayed {
            end,
            behind: None,
            left_over: 0,
        };
        assert_eq!(replayed, expected);
        assert_eq!((state.end(), state.entries.len()), (Some(1), 1));
        assert_eq!(state.purged, Some((0, b"zero".to_vec())));
        assert_eq!(state.committed.as_deref(), Some(b"1".as_slice()));
    }

    #[test]
    fn what_stands_behind_zeros_is_left_over() {
        let mut stored = segment(&[HEAD, entry(0)]);
        let end = stored.len() as u64;
        stored.extend_from_slice(&[0, 0, 0, 0, 0, 7, 0]);
        let replayed = replay(&mut State::default(), 1, &stored).unwrap();
        assert_eq!((replayed.end, replayed.left_over), (end, 6));
        assert!(replayed.behind.is_some());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let purged = Record::Purged {
            upto: 8,
            point: b"",
        };
        for (records, expected) in [
            (vec![], "its head is missing"),
            (vec![entry(0)], "its head is misplaced"),
            (vec![HEAD, HEAD], "its head is misplaced"),
            (vec![Record::Head { number: 2 }], "its head is misplaced"),
            (vec![HEAD, entry(3), entry(3)], "entry 3 follows entry 3"),
            (vec![HEAD, purged, entry(8)], "entry 8 follows entry 8"),
        ] {
            let outcome = replay(&mut State::default(), 1, &segment(&records));
            assert_eq!(outcome.unwrap_err(), expected);
        }
    }
}
