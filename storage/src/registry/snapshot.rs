//! Encodes a whole registry as one checksummed value, for a member that is far behind. PURE.
//!
//! Layout: magic, version, number of rows, state hash, mark, rows, CRC32 of everything before it.
//! Numbers are big-endian; mark, keys and values are prefixed with their length. Rows have a fixed
//! order, so equal registries with equal marks give equal bytes.

use crate::error::{Error, Result};
use crate::registry::db::RegistrationDb;

const MAGIC: &[u8; 8] = b"RLOOKUPD";

/// The version that [`encode`] writes.
const VERSION: u8 = 2;

const TRAILER_BYTES: usize = 4;

/// The contents of a snapshot.
#[derive(Debug)]
pub struct Decoded {
    /// The registry.
    pub db: RegistrationDb,
    /// The mark that was passed to [`encode`].
    pub mark: Vec<u8>,
}

/// Encodes the registry, and an opaque mark that says how far it has applied the log.
///
/// # Errors
/// [`Error::Encoding`] if a row cannot be represented.
pub fn encode(db: &RegistrationDb, mark: &[u8]) -> Result<Vec<u8>> {
    let mut rows = Vec::new();
    let mut count = 0u64;
    for row in db.rows() {
        put(&mut rows, &row.key())?;
        put(&mut rows, &row.value()?)?;
        count += 1;
    }
    let mut bytes = Vec::with_capacity(64 + mark.len() + rows.len());
    bytes.extend_from_slice(MAGIC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(&db.state_hash().to_be_bytes());
    put(&mut bytes, mark)?;
    bytes.append(&mut rows);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    Ok(bytes)
}

/// Decodes what [`encode`] wrote, in memory bounded by the length of `bytes`.
///
/// # Errors
/// [`Error::Encoding`] if the bytes are damaged or of an unknown version, or if the rows do not add
/// up to the state hash.
pub fn decode(bytes: &[u8]) -> Result<Decoded> {
    let (body, checksum) = bytes
        .split_last_chunk::<TRAILER_BYTES>()
        .ok_or_else(|| refuse("it is truncated"))?;
    let mut reader = Reader(body);
    if reader.array::<8>()? != *MAGIC {
        return Err(refuse("it has no snapshot header"));
    }
    let [version] = reader.array()?;
    if version != VERSION {
        return Err(refuse(format!(
            "format version {version} is not supported, only {VERSION} is"
        )));
    }
    if crc32fast::hash(body) != u32::from_be_bytes(*checksum) {
        return Err(refuse("it fails its checksum"));
    }
    let count = u64::from_be_bytes(reader.array()?);
    let state_hash = u128::from_be_bytes(reader.array()?);
    let mark = reader.value()?.to_vec();
    let mut rows = Rows {
        reader,
        left: count,
    };
    let db = RegistrationDb::from_rows(&mut rows)?;
    if rows.left != 0 || !rows.reader.0.is_empty() {
        return Err(refuse("its row count is wrong"));
    }
    if db.state_hash() != state_hash {
        return Err(refuse("its rows do not match its state hash"));
    }
    Ok(Decoded { db, mark })
}

fn refuse(reason: impl Into<String>) -> Error {
    Error::Encoding {
        what: "a snapshot",
        reason: reason.into(),
    }
}

fn put(bytes: &mut Vec<u8>, value: &[u8]) -> Result<()> {
    let length = u32::try_from(value.len()).map_err(|_| refuse("a value is too long"))?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(value);
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| refuse("it is truncated"))?;
        self.0 = rest;
        Ok(*array)
    }

    fn value(&mut self) -> Result<&'a [u8]> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        let (value, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| refuse("it is truncated"))?;
        self.0 = rest;
        Ok(value)
    }
}

/// The rows that are still to be decoded.
struct Rows<'a> {
    reader: Reader<'a>,
    left: u64,
}

impl Rows<'_> {
    fn row(&mut self) -> Result<(Vec<u8>, Vec<u8>)> {
        let key = self.reader.value()?.to_vec();
        Ok((key, self.reader.value()?.to_vec()))
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.row())
    }
}

#[cfg(test)]
mod tests;
