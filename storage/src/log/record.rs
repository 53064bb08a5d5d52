//! Encodes the log's records. PURE.
//!
//! | bytes | contents |
//! |---|---|
//! | 4 | length of kind and contents, big-endian |
//! | 4 | CRC32 over the record's position, kind and contents |
//! | 1 | kind |
//! | | contents: a number of 8 bytes where the kind has one, then bytes |
//!
//! A segment ends where there are zeros instead of length and checksum, or at the end of the file.
//!
//! The checksum covers the position (segment and offset), so that a record found elsewhere is
//! rejected.

/// The size of length and checksum.
const PREFIX_BYTES: usize = 8;

/// The size of a number.
const NUMBER_BYTES: usize = 8;

/// The largest size of kind and contents.
const LONGEST: usize = u32::MAX as usize;

const HEAD: u8 = 1;
const ENTRY: u8 = 2;
const TRUNCATED: u8 = 3;
const PURGED: u8 = 4;
const COMMITTED: u8 = 5;

/// A record. Later records override earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// The first record of a segment, and only that.
    Head {
        /// The segment's number.
        number: u64,
    },
    /// A log entry.
    Entry {
        /// Its index.
        index: u64,
        /// The entry's bytes.
        bytes: &'a [u8],
    },
    /// The entries from `from` on are removed.
    Truncated {
        /// The first removed index.
        from: u64,
    },
    /// The entries up to `upto` are purged.
    Purged {
        /// The last purged index.
        upto: u64,
        /// The purge point.
        point: &'a [u8],
    },
    /// How far the log is known to be committed.
    Committed(&'a [u8]),
}

/// The length of the record of an entry with this many bytes.
pub(super) fn entry_length(bytes: usize) -> usize {
    PREFIX_BYTES + 1 + NUMBER_BYTES + bytes
}

/// The position of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The segment's number.
    pub(super) segment: u64,
    /// The offset in bytes.
    pub(super) offset: u64,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// It is longer than the bytes that are left.
    #[error("is truncated")]
    Short,
    /// Not what was written.
    #[error("fails its checksum")]
    Checksum,
    /// Its checksum matches, but this code never wrote it: an interrupted write does not look like
    /// that.
    #[error("is of an unknown kind")]
    Unknown,
}

impl<'a> Record<'a> {
    /// The length of the record.
    pub(super) fn length(&self) -> usize {
        let (_, number, bytes) = self.parts();
        PREFIX_BYTES + 1 + number.map_or(0, |_| NUMBER_BYTES) + bytes.len()
    }

    /// Whether the record is too long to be encoded.
    pub(super) fn is_too_long(&self) -> bool {
        self.length() - PREFIX_BYTES > LONGEST
    }

    /// Appends the record to `buffer`, for this position. It must not be too long.
    pub(super) fn write(&self, position: Position, buffer: &mut Vec<u8>) {
        debug_assert!(!self.is_too_long(), "a record is too long");
        let (kind, number, bytes) = self.parts();
        let length = (self.length() - PREFIX_BYTES) as u32;
        buffer.extend_from_slice(&length.to_be_bytes());
        let begin = buffer.len();
        buffer.extend_from_slice(&[0; 4]);
        buffer.push(kind);
        if let Some(number) = number {
            buffer.extend_from_slice(&number.to_be_bytes());
        }
        buffer.extend_from_slice(bytes);
        debug_assert!(
            buffer.len() == begin + PREFIX_BYTES - 4 + length as usize,
            "a record is not as long as its length says"
        );
        let checksum = checksum(position, &buffer[begin + 4..]);
        buffer[begin..begin + 4].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Decodes the record at the start of `stored`, which is at this position. Returns it with its
    /// length, or `None` if the segment ends here.
    pub(super) fn read(
        position: Position,
        stored: &'a [u8],
    ) -> Result<Option<(Record<'a>, usize)>, Damage> {
        if stored.iter().take(PREFIX_BYTES).all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (length, behind) = stored.split_first_chunk::<4>().ok_or(Damage::Short)?;
        let (expected, behind) = behind.split_first_chunk::<4>().ok_or(Damage::Short)?;
        let length = u32::from_be_bytes(*length) as usize;
        let body = behind.get(..length).ok_or(Damage::Short)?;
        if checksum(position, body) != u32::from_be_bytes(*expected) {
            return Err(Damage::Checksum);
        }
        let record = Record::from_body(body).ok_or(Damage::Unknown)?;
        Ok(Some((record, PREFIX_BYTES + length)))
    }

    fn parts(&self) -> (u8, Option<u64>, &'a [u8]) {
        match *self {
            Record::Head { number } => (HEAD, Some(number), &[]),
            Record::Entry { index, bytes } => (ENTRY, Some(index), bytes),
            Record::Truncated { from } => (TRUNCATED, Some(from), &[]),
            Record::Purged { upto, point } => (PURGED, Some(upto), point),
            Record::Committed(bytes) => (COMMITTED, None, bytes),
        }
    }

    fn from_body(body: &'a [u8]) -> Option<Record<'a>> {
        let (&kind, contents) = body.split_first()?;
        if kind == COMMITTED {
            return Some(Record::Committed(contents));
        }
        let (number, bytes) = contents.split_first_chunk::<NUMBER_BYTES>()?;
        let number = u64::from_be_bytes(*number);
        match kind {
            HEAD if bytes.is_empty() => Some(Record::Head { number }),
            ENTRY => Some(Record::Entry {
                index: number,
                bytes,
            }),
            TRUNCATED if bytes.is_empty() => Some(Record::Truncated { from: number }),
            PURGED => Some(Record::Purged {
                upto: number,
                point: bytes,
            }),
            _ => None,
        }
    }
}

fn checksum(position: Position, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.segment.to_be_bytes());
    hasher.update(&position.offset.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position {
        segment: 3,
        offset: 70,
    };

    const RECORDS: [Record<'_>; 8] = [
        Record::Head { number: 3 },
        Record::Entry {
            index: 9,
            bytes: b"entry",
        },
        Record::Entry {
            index: 0,
            bytes: b"",
        },
        Record::Truncated { from: 7 },
        Record::Purged {
            upto: u64::MAX,
            point: b"point",
        },
        Record::Purged {
            upto: 0,
            point: b"",
        },
        Record::Committed(b"9"),
        Record::Committed(b""),
    ];

    fn written(record: &Record<'_>) -> Vec<u8> {
        let mut buffer = Vec::new();
        record.write(AT, &mut buffer);
        buffer
    }

    #[test]
    fn reads_back_what_it_wrote() {
        for record in RECORDS {
            let mut stored = written(&record);
            assert_eq!(stored.len(), record.length());
            stored.extend_from_slice(b"the next one");
            let found = Record::read(AT, &stored).unwrap().unwrap();
            assert_eq!(found, (record, record.length()));
            if let Record::Entry { bytes, .. } = record {
                assert_eq!(record.length(), entry_length(bytes.len()));
            }
        }
    }

    #[test]
    fn zeros_are_the_end() {
        for length in [0, 1, 3, 4, 8, 100] {
            assert_eq!(Record::read(AT, &vec![0; length]), Ok(None));
        }
    }

    #[test]
    fn any_flipped_or_missing_byte_is_noticed() {
        for record in RECORDS {
            let good = written(&record);
            for position in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[position] ^= 1 << bit;
                    let found = Record::read(AT, &bad);
                    assert!(
                        matches!(found, Err(Damage::Short | Damage::Checksum)),
                        "{record:?}, byte {position}: {found:?}"
                    );
                }
                // Cut off, or cut off and followed by zeros.
                let mut zeros = good.clone();
                zeros[position..].fill(0);
                for cut in [&good[..position], &zeros] {
                    let found = Record::read(AT, cut);
                    let as_good = cut == good && found.is_ok();
                    assert!(
                        as_good || matches!(found, Ok(None) | Err(_)),
                        "{record:?}, cut at {position}: {found:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_record_in_another_place_is_noticed() {
        let stored = written(&RECORDS[1]);
        let elsewhere = [Position { segment: 4, ..AT }, Position { offset: 71, ..AT }];
        for position in elsewhere {
            assert_eq!(Record::read(position, &stored), Err(Damage::Checksum));
        }
    }

    #[test]
    fn what_was_written_by_other_code_is_no_torn_end() {
        for body in [&[9; 9][..], &[HEAD; 10], &[ENTRY; 3]] {
            let mut stored = (body.len() as u32).to_be_bytes().to_vec();
            stored.extend_from_slice(&checksum(AT, body).to_be_bytes());
            stored.extend_from_slice(body);
            assert_eq!(Record::read(AT, &stored), Err(Damage::Unknown));
        }
    }
}
