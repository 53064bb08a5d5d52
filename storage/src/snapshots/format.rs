//! Writes and reads a whole registry as one checksummed stream, without a second copy in memory.
//!
//! | bytes | contents |
//! |---|---|
//! | 8 | magic |
//! | 1 | version |
//! | 16 | state hash |
//! | | mark: how far the log is applied |
//! | | records |
//! | 1 | `e`, the end of the records |
//! | 8 | the number of records |
//! | 4 | CRC32 of everything before it |
//!
//! A record is a letter and two values: `r`, key and value of a row that belongs to no topic; or `t`,
//! the name of a topic and the packed topic. Numbers are big-endian; mark and values are prefixed
//! with their length.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::registry::db::{Loader, RegistrationDb, topic_hash};
use crate::registry::rows::row_hash;

const MAGIC: &[u8; 8] = b"RLOOKUPD";

/// The version that [`Writer`] writes.
const VERSION: u8 = 3;

const ROW: u8 = b'r';
const TOPIC: u8 = b't';
const END: u8 = b'e';

const CHECKSUM_BYTES: u64 = 4;

/// The contents of a snapshot.
#[derive(Debug)]
pub struct Decoded {
    /// The registry.
    pub db: RegistrationDb,
    /// The mark that was passed to [`Writer::begin`].
    pub mark: Vec<u8>,
}

/// Writes a snapshot, record by record, and checks that the records add up to the state hash.
pub(crate) struct Writer<'a, W> {
    out: W,
    path: &'a Path,
    hasher: crc32fast::Hasher,
    expected: u128,
    found: u128,
    count: u64,
    written: u64,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Starts a snapshot of the registry with this state hash. `path` is named in errors.
    pub(crate) fn begin(out: W, path: &'a Path, state_hash: u128, mark: &[u8]) -> Result<Self> {
        let mut writer = Writer {
            out,
            path,
            hasher: crc32fast::Hasher::new(),
            expected: state_hash,
            found: 0,
            count: 0,
            written: 0,
        };
        writer.put(MAGIC)?;
        writer.put(&[VERSION])?;
        writer.put(&state_hash.to_be_bytes())?;
        writer.value(mark)?;
        Ok(writer)
    }

    /// Adds a row that belongs to no topic.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.found = self.found.wrapping_add(row_hash(key, value));
        self.record(ROW, key, value)
    }

    /// Adds a topic that [`RegistrationDb::pack`] has encoded.
    pub(crate) fn topic(&mut self, name: &str, packed: &[u8]) -> Result<()> {
        self.found = self.found.wrapping_add(topic_hash(name, packed)?);
        self.record(TOPIC, name.as_bytes(), packed)
    }

    /// Ends the snapshot. Returns what it was written to, and its length.
    ///
    /// # Errors
    /// [`Error::Encoding`] if the records do not add up to the state hash.
    pub(crate) fn finish(mut self) -> Result<(W, u64)> {
        if self.found != self.expected {
            return Err(refuse("its rows do not match its state hash"));
        }
        self.put(&[END])?;
        self.put(&self.count.to_be_bytes())?;
        let checksum = self.hasher.clone().finalize();
        self.put(&checksum.to_be_bytes())?;
        self.out.flush().map_err(Error::io("write", self.path))?;
        Ok((self.out, self.written))
    }

    fn record(&mut self, kind: u8, key: &[u8], value: &[u8]) -> Result<()> {
        self.count += 1;
        self.put(&[kind])?;
        self.value(key)?;
        self.value(value)
    }

    fn value(&mut self, value: &[u8]) -> Result<()> {
        let length = u32::try_from(value.len()).map_err(|_| refuse("a value is too long"))?;
        self.put(&length.to_be_bytes())?;
        self.put(value)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(Error::io("write", self.path))
    }
}

/// Reads what [`Writer`] has written: `length` bytes.
///
/// # Errors
/// [`Error::Encoding`] if the bytes are damaged or of an unknown version, or if the rows do not add
/// up to the state hash; [`Error::Io`] if they cannot be read.
pub(crate) fn read(input: impl Read, length: u64, path: &Path) -> Result<Decoded> {
    let mut reader = Reader::begin(input, length, path)?;
    let mut loader = Loader::default();
    while let Some(record) = reader.record()? {
        match record {
            Record::Row(key, value) => loader.row(&key, &value)?,
            Record::Topic(name, packed) => loader.topic(name, &packed)?,
        }
    }
    let (state_hash, mark) = reader.finish()?;
    let db = loader.finish()?;
    if db.state_hash() != state_hash {
        return Err(refuse("its rows do not match its state hash"));
    }
    Ok(Decoded { db, mark })
}

/// Reads the mark at the beginning of a snapshot.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_mark(input: impl Read, length: u64, path: &Path) -> Result<Vec<u8>> {
    Ok(Reader::begin(input, length, path)?.mark)
}

/// Checks that a snapshot is whole, without decoding it.
///
/// # Errors
/// As [`read`].
pub(crate) fn verify(input: impl Read, length: u64, path: &Path) -> Result<()> {
    let mut reader = Reader::begin(input, length, path)?;
    let mut buffer = vec![0; 64 << 10];
    while reader.left > 0 {
        let next = reader.left.min(buffer.len() as u64) as usize;
        reader.get(&mut buffer[..next])?;
    }
    reader.check()
}

enum Record {
    Row(Vec<u8>, Vec<u8>),
    Topic(String, Vec<u8>),
}

struct Reader<'a, R> {
    input: R,
    path: &'a Path,
    hasher: crc32fast::Hasher,
    /// Bytes before the checksum. A forged length cannot claim more.
    left: u64,
    state_hash: u128,
    mark: Vec<u8>,
    count: u64,
}

impl<'a, R: Read> Reader<'a, R> {
    fn begin(input: R, length: u64, path: &'a Path) -> Result<Self> {
        let left = length.checked_sub(CHECKSUM_BYTES);
        let mut reader = Reader {
            input,
            path,
            hasher: crc32fast::Hasher::new(),
            left: left.ok_or_else(|| refuse("it is truncated"))?,
            state_hash: 0,
            mark: Vec::new(),
            count: 0,
        };
        if reader.array::<8>()? != *MAGIC {
            return Err(refuse("it has no snapshot header"));
        }
        let [version] = reader.array()?;
        if version != VERSION {
            return Err(refuse(format!(
                "format version {version} is not supported, only {VERSION} is"
            )));
        }
        reader.state_hash = u128::from_be_bytes(reader.array()?);
        reader.mark = reader.value()?;
        Ok(reader)
    }

    /// The next record; `None` at the end.
    fn record(&mut self) -> Result<Option<Record>> {
        let [kind] = self.array()?;
        if kind == END {
            return Ok(None);
        }
        self.count += 1;
        let (key, value) = (self.value()?, self.value()?);
        match kind {
            ROW => Ok(Some(Record::Row(key, value))),
            TOPIC => {
                let name = String::from_utf8(key).map_err(|_| refuse("a topic has no name"))?;
                Ok(Some(Record::Topic(name, value)))
            }
            _ => Err(refuse("a record is of an unknown kind")),
        }
    }

    /// Checks what follows the records. Returns the state hash and the mark.
    fn finish(mut self) -> Result<(u128, Vec<u8>)> {
        let count = u64::from_be_bytes(self.array()?);
        if count != self.count || self.left != 0 {
            return Err(refuse("its row count is wrong"));
        }
        self.check()?;
        Ok((self.state_hash, self.mark))
    }

    fn check(&mut self) -> Result<()> {
        let expected = self.hasher.clone().finalize();
        let mut checksum = [0; CHECKSUM_BYTES as usize];
        self.fill(&mut checksum)?;
        match u32::from_be_bytes(checksum) == expected {
            true => Ok(()),
            false => Err(refuse("it fails its checksum")),
        }
    }

    fn value(&mut self) -> Result<Vec<u8>> {
        let length = u64::from(u32::from_be_bytes(self.array()?));
        if length > self.left {
            return Err(refuse("it is truncated"));
        }
        let mut value = vec![0; length as usize];
        self.get(&mut value)?;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        self.get(&mut array)?;
        Ok(array)
    }

    fn get(&mut self, bytes: &mut [u8]) -> Result<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| refuse("it is truncated"))?;
        self.fill(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self.input.read_exact(bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(refuse("it is truncated"))
            }
            outcome => outcome.map_err(Error::io("read", self.path)),
        }
    }
}

fn refuse(reason: impl Into<String>) -> Error {
    Error::Encoding {
        what: "a snapshot",
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
