//! Stores one small value in a file, replaced as a whole: version, CRC32, bytes.
//!
//! For values that must be known even if the tables are not: a damaged database may open without an
//! error, while these few bytes either pass their checksum or do not.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::fs::{parent_of, sync_folder};
use crate::error::{Error, Result};

/// The version that [`seal`] writes.
const VERSION: u8 = 1;

/// Version byte and checksum.
const HEADER_BYTES: usize = 5;

/// A file that holds one value.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    /// Held while saving: concurrent calls would share the temporary file.
    saving: Mutex<()>,
}

impl RecordFile {
    /// The record at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> RecordFile {
        RecordFile {
            path: path.into(),
            saving: Mutex::new(()),
        }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value that was saved last; `None` if there is no file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the file does not hold what [`save`](Self::save) wrote,
    /// [`Error::NewerFormat`] if a newer version wrote it, [`Error::Io`] if it cannot be read.
    pub fn load(&self) -> Result<Option<Vec<u8>>> {
        let stored = match std::fs::read(&self.path) {
            Ok(stored) => stored,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &self.path)(error)),
        };
        match unseal(&[], &stored) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(Damage::Version(found)) => Err(Error::NewerFormat {
                path: self.path.clone(),
                found: found.into(),
                supported: VERSION.into(),
            }),
            Err(damage) => {
                let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                Err(Error::corrupt(
                    parent_of(&self.path),
                    format!("`{name}` {damage}"),
                ))
            }
        }
    }

    /// Replaces the value. When this returns, the new value survives a power failure. An
    /// interruption leaves either the old or the new value.
    ///
    /// # Errors
    /// [`Error::Io`]: it is then unknown which of the two is stored.
    pub fn save(&self, bytes: &[u8]) -> Result<()> {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let mut name = self.path.file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        let temporary = self.path.with_file_name(name);
        File::create(&temporary)
            .and_then(|mut file| {
                file.write_all(&seal(&[], bytes))?;
                // Before the rename: the name must never point to bytes that are not on disk.
                file.sync_all()
            })
            .map_err(Error::io("write", &temporary))?;
        std::fs::rename(&temporary, &self.path).map_err(Error::io("write", &self.path))?;
        sync_folder(parent_of(&self.path))
    }
}

/// Why sealed bytes were rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// Too short.
    #[error("is truncated")]
    Short,
    /// Of another version.
    #[error("has format version {0}, which this version cannot read")]
    Version(u8),
    /// Not what was written.
    #[error("fails its checksum")]
    Checksum,
}

/// Puts version and checksum in front of bytes. The checksum covers `place` as well, so that a
/// value found in another place is rejected.
pub(crate) fn seal(place: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER_BYTES + bytes.len());
    sealed.push(VERSION);
    sealed.extend_from_slice(&checksum(place, bytes).to_be_bytes());
    sealed.extend_from_slice(bytes);
    sealed
}

/// Returns the bytes that [`seal`] was given.
pub(crate) fn unseal<'a>(place: &[u8], sealed: &'a [u8]) -> std::result::Result<&'a [u8], Damage> {
    let (&version, rest) = sealed.split_first().ok_or(Damage::Short)?;
    let (expected, bytes) = rest.split_first_chunk::<4>().ok_or(Damage::Short)?;
    let matches = checksum(place, bytes) == u32::from_be_bytes(*expected);
    match (version, matches) {
        (VERSION, true) => Ok(bytes),
        // There never was a smaller version. A greater one may be damage, but also a future one
        // whose checksum need not be ours.
        (version, _) if version > VERSION => Err(Damage::Version(version)),
        _ => Err(Damage::Checksum),
    }
}

fn checksum(place: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(place);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_saved_last() {
        let folder = tempfile::tempdir().unwrap();
        let record = RecordFile::new(folder.path().join("record"));
        assert_eq!(record.load().unwrap(), None);
        for value in [b"first".as_slice(), b"", b"third"] {
            record.save(value).unwrap();
            assert_eq!(record.load().unwrap().as_deref(), Some(value));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_interrupted_save_leaves_the_old_value() {
        let folder = tempfile::tempdir().unwrap();
        let record = RecordFile::new(folder.path().join("record"));
        record.save(b"old").unwrap();
        std::fs::write(folder.path().join("record.tmp"), b"half").unwrap();
        assert_eq!(record.load().unwrap().as_deref(), Some(b"old".as_slice()));
        record.save(b"new").unwrap();
        assert_eq!(record.load().unwrap().as_deref(), Some(b"new".as_slice()));
    }

    #[test]
    fn any_flipped_or_missing_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let record = RecordFile::new(folder.path().join("record"));
        record.save(b"precious").unwrap();
        let good = std::fs::read(record.path()).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 0x40;
            std::fs::write(record.path(), &bad).unwrap();
            assert!(record.load().is_err(), "byte {position} flipped");
            std::fs::write(record.path(), &good[..position]).unwrap();
            assert!(
                matches!(record.load(), Err(Error::Corrupt { .. })),
                "cut at {position}"
            );
        }
        std::fs::write(record.path(), vec![0; good.len()]).unwrap();
        let error = record.load().unwrap_err().to_string();
        assert!(error.contains("`record` fails its checksum"), "{error}");
    }

    #[test]
    fn a_value_in_another_place_is_noticed() {
        assert_eq!(unseal(b"a", &seal(b"a", b"x")), Ok(b"x".as_slice()));
        assert_eq!(unseal(b"b", &seal(b"a", b"x")), Err(Damage::Checksum));
    }
}
