//! How one log entry stands in the table: sealed, then cut into chunks. PURE.
//!
//! The key is the entry's index and the chunk's number, both big-endian, so that keys sort as
//! the log does. Chunks are small for the engine's sake: a larger value would end up
//! in a file that it does not sync.

use crate::record_file::{Damage, seal, unseal};
use crate::sled_engine::LARGEST_SMALL_VALUE;

/// Where an index begins in the table.
pub(crate) fn first_key(index: u64) -> [u8; 12] {
    chunk_key(index, 0)
}

fn chunk_key(index: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// Index and chunk number of a key.
fn split_key(key: &[u8]) -> Option<(u64, u32)> {
    let (index, chunk) = key.split_first_chunk::<8>()?;
    let chunk = <[u8; 4]>::try_from(chunk).ok()?;
    Some((u64::from_be_bytes(*index), u32::from_be_bytes(chunk)))
}

/// Whether this is the key of an entry's first chunk.
pub(crate) fn begins_entry(key: &[u8]) -> bool {
    split_key(key).is_some_and(|(_, chunk)| chunk == 0)
}

/// The rows of one entry.
pub(crate) fn to_chunks(index: u64, bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let sealed = seal(&index.to_be_bytes(), bytes);
    (0u32..)
        .zip(sealed.chunks(LARGEST_SMALL_VALUE))
        .map(|(chunk, part)| (chunk_key(index, chunk).to_vec(), part.to_vec()))
        .collect()
}

/// An entry that is being put together.
#[derive(Default)]
pub(crate) struct Assembly {
    index: Option<u64>,
    chunks: u32,
    sealed: Vec<u8>,
}

/// An entry, or what is wrong with it.
pub(crate) type Assembled = (u64, Result<Vec<u8>, Damage>);

impl Assembly {
    /// Takes the next row in key order; the entry before it, if this row begins another.
    ///
    /// A missing chunk is noticed by the checksum, as anything else.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Option<Assembled> {
        let Some((index, chunk)) = split_key(key) else {
            // Not a key of ours: whatever was being put together does not end well.
            self.chunks = u32::MAX;
            return None;
        };
        let finished = if self.index == Some(index) {
            None
        } else {
            self.finish()
        };
        self.index = Some(index);
        if chunk == self.chunks {
            self.chunks += 1;
            self.sealed.extend_from_slice(value);
        } else {
            self.chunks = u32::MAX;
        }
        finished
    }

    /// The last entry, when there are no more rows.
    pub(crate) fn finish(&mut self) -> Option<Assembled> {
        let Assembly {
            index,
            chunks,
            sealed,
        } = std::mem::take(self);
        let index = index?;
        let place = index.to_be_bytes();
        let entry = match chunks {
            u32::MAX => Err(Damage::Short),
            _ => unseal(&place, &sealed).map(<[u8]>::to_vec),
        };
        Some((index, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<Assembled> {
        let mut assembly = Assembly::default();
        let mut entries: Vec<_> = rows
            .iter()
            .filter_map(|(key, value)| assembly.push(key, value))
            .collect();
        entries.extend(assembly.finish());
        entries
    }

    #[test]
    fn puts_together_what_it_cut() {
        let entries: Vec<(u64, Vec<u8>)> = [0, 1, 4091, 4092, 100_000]
            .into_iter()
            .zip(7u64..)
            .map(|(length, index)| (index, vec![index as u8; length]))
            .collect();
        let rows: Vec<_> = entries
            .iter()
            .flat_map(|(index, bytes)| to_chunks(*index, bytes))
            .collect();
        assert!(rows.is_sorted());
        assert!(rows.iter().all(|row| row.1.len() <= LARGEST_SMALL_VALUE));
        let expected: Vec<Assembled> = entries
            .into_iter()
            .map(|(index, bytes)| (index, Ok(bytes)))
            .collect();
        assert_eq!(assemble(&rows), expected);
    }

    #[test]
    fn notices_what_is_missing_or_misplaced() {
        let rows = to_chunks(3, &vec![1; 3 * LARGEST_SMALL_VALUE]);
        assert_eq!(rows.len(), 4);
        for missing in 0..4 {
            let mut rows = rows.clone();
            rows.remove(missing);
            let entries = assemble(&rows);
            assert_eq!(entries.len(), 1);
            assert!(entries[0].1.is_err(), "without chunk {missing}");
        }
        let elsewhere = vec![(chunk_key(4, 0).to_vec(), to_chunks(3, b"x")[0].1.clone())];
        assert_eq!(assemble(&elsewhere), [(4, Err(Damage::Checksum))]);
    }
}
