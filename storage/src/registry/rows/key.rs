//! Writes and reads row keys: a letter, names ended by a zero byte, big-endian numbers.

use crate::error::{Error, Result};

/// Builds a key, part by part.
pub(super) struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// A key of this kind.
    pub(super) fn new(kind: u8) -> Self {
        KeyWriter::reusing(Vec::new(), kind)
    }

    /// A key of this kind, in a buffer whose contents are discarded.
    pub(super) fn reusing(mut buffer: Vec<u8>, kind: u8) -> Self {
        buffer.clear();
        buffer.push(kind);
        KeyWriter(buffer)
    }

    pub(super) fn name(mut self, name: &str) -> Self {
        debug_assert!(!name.as_bytes().contains(&0), "a name with a zero byte");
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(0);
        self
    }

    pub(super) fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Takes a key apart, in the order in which it was built.
pub(super) struct KeyReader<'a> {
    key: &'a [u8],
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Returns the key's kind, and a reader for the rest.
    pub(super) fn new(key: &'a [u8]) -> Result<(u8, Self)> {
        let (&kind, rest) = key.split_first().ok_or_else(|| bad_key(key))?;
        Ok((kind, KeyReader { key, rest }))
    }

    pub(super) fn name(&mut self) -> Result<String> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let (name, rest) = end
            .map(|end| (&self.rest[..end], &self.rest[end + 1..]))
            .ok_or_else(|| bad_key(self.key))?;
        self.rest = rest;
        String::from_utf8(name.to_vec()).map_err(|_| bad_key(self.key))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.number().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.number().map(u64::from_be_bytes)
    }

    /// Fails if parts are left.
    pub(super) fn finish(self) -> Result<()> {
        match self.rest {
            [] => Ok(()),
            _ => Err(bad_key(self.key)),
        }
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (number, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| bad_key(self.key))?;
        self.rest = rest;
        Ok(*number)
    }
}

/// The error for a key, or a key and value, that no row has.
pub(super) fn bad_key(key: &[u8]) -> Error {
    Error::Encoding {
        what: "a registry row",
        reason: format!("no row has the key {}", key.escape_ascii()),
    }
}
