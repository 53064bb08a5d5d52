//! Encodes a topic as one value, split into pieces that are small enough for the engine. PURE.
//!
//! A piece's key is `t`, the name, a zero byte (which no name contains) and the number of the
//! piece, so pieces are in order. The first piece begins with the length of the whole, which
//! determines the number of pieces.

use super::sled_engine::{Change, LARGEST_SMALL_VALUE};
use crate::error::{Error, Result};

/// The first byte of a piece's key. No other row's key starts with it.
const KIND: u8 = b't';

const LENGTH_BYTES: usize = 4;
const NUMBER_BYTES: usize = 4;

/// Whether this is the key of a piece.
pub(super) fn is_piece(key: &[u8]) -> bool {
    key.first() == Some(&KIND)
}

/// The key of a topic's first piece.
pub(super) fn first_key(topic: &str) -> Vec<u8> {
    key(topic, 0)
}

/// Adds the changes that replace a topic: `first` is its first piece so far, `packed` its new
/// value.
pub(super) fn replace(
    topic: &str,
    first: Option<&[u8]>,
    packed: Option<&[u8]>,
    changes: &mut Vec<Change>,
) -> Result<()> {
    let mut written = 0;
    if let Some(packed) = packed {
        let length = u32::try_from(packed.len())
            .map_err(|_| refuse(format!("topic {topic} takes more than 4 GiB")))?;
        let whole = [&length.to_be_bytes(), packed].concat();
        for piece in whole.chunks(LARGEST_SMALL_VALUE) {
            changes.push((key(topic, written), Some(piece.to_vec())));
            written += 1;
        }
        debug_assert!(
            written == pieces_of(packed.len()),
            "a topic has more or fewer pieces than its length says"
        );
    }
    let before = first.and_then(length_of).map_or(0, pieces_of);
    changes.extend((written..before).map(|number| (key(topic, number), None)));
    Ok(())
}

fn key(topic: &str, number: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(topic.len() + 2 + NUMBER_BYTES);
    key.push(KIND);
    key.extend_from_slice(topic.as_bytes());
    key.push(0);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn length_of(first: &[u8]) -> Option<usize> {
    let length = first.first_chunk::<LENGTH_BYTES>()?;
    Some(u32::from_be_bytes(*length) as usize)
}

fn pieces_of(length: usize) -> u32 {
    let pieces = (LENGTH_BYTES + length).div_ceil(LARGEST_SMALL_VALUE);
    u32::try_from(pieces).unwrap_or(u32::MAX)
}

/// Joins pieces, which come in the order of their keys.
#[derive(Default)]
pub(super) struct Assembly {
    topic: String,
    whole: Vec<u8>,
    next: u32,
    left: u32,
}

impl Assembly {
    /// Adds a piece. Returns the topic and its value if it was the last piece.
    ///
    /// # Errors
    /// [`Error::Encoding`] if a piece is missing or misplaced.
    pub(super) fn push(&mut self, key: &[u8], piece: &[u8]) -> Result<Option<(String, Vec<u8>)>> {
        let bad = || {
            refuse(format!(
                "no piece of a topic belongs at {}",
                key.escape_ascii()
            ))
        };
        let (rest, number) = key.split_last_chunk::<NUMBER_BYTES>().ok_or_else(bad)?;
        let [KIND, topic @ .., 0] = rest else {
            return Err(bad());
        };
        if self.left == 0 {
            let length = length_of(piece).ok_or_else(bad)?;
            self.topic = String::from_utf8(topic.to_vec()).map_err(|_| bad())?;
            self.whole.clear();
            self.next = 0;
            self.left = pieces_of(length);
        }
        if topic != self.topic.as_bytes() || u32::from_be_bytes(*number) != self.next {
            return Err(bad());
        }
        self.whole.extend_from_slice(piece);
        self.next += 1;
        self.left -= 1;
        if self.left > 0 {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.whole);
        if length_of(&whole) != Some(whole.len() - LENGTH_BYTES) {
            return Err(refuse(format!("topic {} has the wrong length", self.topic)));
        }
        let packed = whole[LENGTH_BYTES..].to_vec();
        Ok(Some((std::mem::take(&mut self.topic), packed)))
    }

    /// # Errors
    /// [`Error::Encoding`] if the last topic is incomplete.
    pub(super) fn finish(&self) -> Result<()> {
        match self.left {
            0 => Ok(()),
            _ => Err(refuse(format!("topic {} is truncated", self.topic))),
        }
    }
}

fn refuse(reason: String) -> Error {
    Error::Encoding {
        what: "a topic",
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Table = BTreeMap<Vec<u8>, Vec<u8>>;

    fn write(table: &mut Table, topic: &str, packed: Option<&[u8]>) {
        let first = table.get(&first_key(topic)).cloned();
        let mut changes = Vec::new();
        replace(topic, first.as_deref(), packed, &mut changes).unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => drop(table.insert(key, value)),
                None => assert!(table.remove(&key).is_some()),
            }
        }
    }

    fn read(table: &Table) -> Result<Vec<(String, Vec<u8>)>> {
        let mut assembly = Assembly::default();
        let mut topics = Vec::new();
        for (key, piece) in table {
            topics.extend(assembly.push(key, piece)?);
        }
        assembly.finish()?;
        Ok(topics)
    }

    #[test]
    fn what_was_written_last_is_read() {
        let mut table = Table::new();
        let mut expected = BTreeMap::new();
        let edge = LARGEST_SMALL_VALUE - LENGTH_BYTES;
        for length in [0, 1, 20_000, edge, edge + 1, 3 * edge, 7] {
            for topic in ["a", "a.b", "ab"] {
                let packed = vec![length as u8; length];
                write(&mut table, topic, Some(&packed));
                expected.insert(topic.to_string(), packed);
                let topics = read(&table).unwrap();
                assert_eq!(topics.into_iter().collect::<BTreeMap<_, _>>(), expected);
            }
        }
        assert_eq!(table.len(), 3);
        write(&mut table, "a", None);
        write(&mut table, "never", None);
        assert_eq!(read(&table).unwrap().len(), 2);
    }

    #[test]
    fn missing_and_foreign_pieces_are_noticed() {
        let mut good = Table::new();
        write(&mut good, "a", Some(&[1; 9000]));
        write(&mut good, "b", Some(&[2; 10]));
        for damage in 0..good.len() {
            let mut table = good.clone();
            let key = good.keys().nth(damage).unwrap().clone();
            if key == first_key("b") {
                continue; // a topic as a whole is the state hash's to miss
            }
            table.remove(&key);
            assert!(read(&table).is_err(), "without {}", key.escape_ascii());
        }
        for key in [
            b"t".to_vec(),
            b"ta\0".to_vec(),
            key("a", 3),
            b"tc\0\0\0\0\x01".to_vec(),
        ] {
            let mut table = good.clone();
            table.insert(key.clone(), vec![0, 0, 0, 1, 1]);
            assert!(read(&table).is_err(), "with {}", key.escape_ascii());
        }
    }
}
