//! Keeps the snapshot files of a data path: writes, receives, lists and reads them.
//!
//! A file gets its name, which has the index of the last entry in it, when all of it is durable. So a
//! file with such a name is whole, unless the disk has damaged it since. The last two are kept, so
//! that one damaged file is not the end if the log reaches back to the other.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::format::{self, Decoded, Writer};
use crate::disk::fs::{create_private_folder, sync_folder};
use crate::disk::write_gate::WriteGate;
use crate::error::{Error, Result};

/// The files' folder in the data path.
pub(crate) const FOLDER: &str = "snapshots";

const EXTENSION: &str = "snapshot";

/// A file that is being written.
const WRITTEN: &str = "written.tmp";

/// A file that is being received from another member.
const RECEIVED: &str = "received.tmp";

/// How many files are kept.
const KEPT: usize = 2;

/// The snapshot files of one data path. Clones are handles on the same files.
#[derive(Clone)]
pub struct SnapshotFiles(Arc<Inner>);

struct Inner {
    gate: WriteGate,
    folder: PathBuf,
    /// The index of each file. Locked while files get their names or are removed.
    indexes: Mutex<BTreeSet<u64>>,
}

impl SnapshotFiles {
    /// Lists the files in the gate's data path, and removes those that were never finished.
    pub(crate) fn open(gate: &WriteGate) -> Result<SnapshotFiles> {
        let folder = gate.data_path().join(FOLDER);
        create_private_folder(&folder)?;
        let mut indexes = BTreeSet::new();
        for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => indexes.extend(index_of(&path)),
                Some("tmp") => remove(&path)?,
                _ => {}
            }
        }
        Ok(SnapshotFiles(Arc::new(Inner {
            gate: gate.clone(),
            folder,
            indexes: Mutex::new(indexes),
        })))
    }

    /// The index of the last entry that the newest file contains.
    pub fn newest(&self) -> Option<u64> {
        self.indexes().last().copied()
    }

    /// The index of the file before the newest one.
    pub fn second_newest(&self) -> Option<u64> {
        self.indexes().iter().nth_back(1).copied()
    }

    /// Whether the entries up to this index are in a file, so that the log need not keep them.
    pub fn contain(&self, upto: u64) -> bool {
        self.newest() >= Some(upto)
    }

    /// The indexes of all files, newest first.
    pub(crate) fn newest_first(&self) -> Vec<u64> {
        self.indexes().iter().rev().copied().collect()
    }

    /// Writes a snapshot that ends with the entry at `index`: durable, under its name, or not at
    /// all. Returns its length.
    ///
    /// # Errors
    /// Those of `fill`, and [`Error::Io`]. The unfinished file is removed.
    pub(crate) fn write(
        &self,
        index: u64,
        state_hash: u128,
        mark: &[u8],
        fill: impl FnOnce(&mut Writer<'_, BufWriter<File>>) -> Result<()>,
    ) -> Result<u64> {
        let path = self.0.folder.join(WRITTEN);
        let outcome = self.write_to(&path, index, state_hash, mark, fill);
        if outcome.is_err() {
            // It may be what fills the disk. The next start removes it, too.
            let _ = std::fs::remove_file(&path);
        }
        outcome
    }

    fn write_to(
        &self,
        path: &Path,
        index: u64,
        state_hash: u128,
        mark: &[u8],
        fill: impl FnOnce(&mut Writer<'_, BufWriter<File>>) -> Result<()>,
    ) -> Result<u64> {
        self.0.gate.check()?;
        let file = File::create(path).map_err(Error::io("create", path))?;
        let buffered = BufWriter::with_capacity(256 << 10, file);
        let mut writer = Writer::begin(buffered, path, state_hash, mark)?;
        fill(&mut writer)?;
        let (buffered, length) = writer.finish()?;
        let file = buffered
            .into_inner()
            .map_err(|error| Error::io("write", path)(error.into_error()))?;
        self.name(path, &file, index)?;
        Ok(length)
    }

    /// Starts the file that takes in what another member sends. It replaces an earlier one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub fn receive(&self) -> Result<File> {
        self.0.gate.check()?;
        let path = self.0.folder.join(RECEIVED);
        remove(&path)?;
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Error::io("create", &path))
    }

    /// Reads what was received, and makes it durable. It does not count yet: see
    /// [`adopt`](Self::adopt).
    ///
    /// # Errors
    /// [`Error::Encoding`] if it is not a whole snapshot, [`Error::Io`] if it cannot be written or
    /// read.
    pub fn read_received(&self, file: &mut File) -> Result<Decoded> {
        let path = self.0.folder.join(RECEIVED);
        file.sync_all().map_err(Error::io("sync", &path))?;
        let (input, length) = from_beginning(file, &path)?;
        format::read(input, length, &path)
    }

    /// Counts what was received as the snapshot that ends with the entry at `index`, durably.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn adopt(&self, file: &mut File, index: u64) -> Result<()> {
        self.0.gate.check()?;
        let path = self.0.folder.join(RECEIVED);
        if is_file_at(file, &path) {
            return self.name(&path, file, index);
        }
        let path = self.0.folder.join(WRITTEN);
        let copy = File::create(&path).and_then(|mut copy| {
            file.rewind()?;
            std::io::copy(file, &mut copy)?;
            Ok(copy)
        });
        self.name(&path, &copy.map_err(Error::io("write", &path))?, index)
    }

    /// Opens a file, with its mark, after checking that it is whole.
    ///
    /// # Errors
    /// [`Error::Encoding`] if it is damaged, [`Error::Io`] if it cannot be read.
    pub fn open_whole(&self, index: u64) -> Result<(File, Vec<u8>)> {
        let path = self.path(index);
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let (input, length) = from_beginning(&mut file, &path)?;
        format::verify(input, length, &path)?;
        let (input, length) = from_beginning(&mut file, &path)?;
        let mark = format::read_mark(input, length, &path)?;
        file.rewind().map_err(Error::io("read", &path))?;
        Ok((file, mark))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Encoding`] if it is damaged, [`Error::Io`] if it cannot be read.
    pub(crate) fn load(&self, index: u64) -> Result<Decoded> {
        let path = self.path(index);
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let (input, length) = from_beginning(&mut file, &path)?;
        format::read(input, length, &path)
    }

    /// Stops counting a file that turned out to be damaged. It is kept under another name, the last
    /// one of its kind.
    pub fn set_aside(&self, index: u64) {
        let mut indexes = self.indexes();
        let to = self.0.folder.join("damaged");
        if let Err(error) = std::fs::rename(self.path(index), &to) {
            tracing::warn!(%error, index, "could not rename a damaged snapshot file");
        }
        indexes.remove(&index);
    }

    /// The size of a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be measured.
    pub fn bytes(&self, index: u64) -> Result<u64> {
        let path = self.path(index);
        let measured = std::fs::metadata(&path);
        Ok(measured.map_err(Error::io("measure", &path))?.len())
    }

    /// The size of all files.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.newest_first()
            .into_iter()
            .map(|index| self.bytes(index))
            .sum()
    }

    /// Makes an unfinished file durable, gives it its name, and removes those that are too many.
    fn name(&self, unfinished: &Path, file: &File, index: u64) -> Result<()> {
        file.sync_all().map_err(Error::io("sync", unfinished))?;
        let mut indexes = self.indexes();
        let path = self.path(index);
        std::fs::rename(unfinished, &path).map_err(Error::io("create", &path))?;
        sync_folder(&self.0.folder)?;
        indexes.insert(index);
        while indexes.len() > KEPT
            && let Some(oldest) = indexes.pop_first()
        {
            if let Err(error) = remove(&self.path(oldest)) {
                // It only takes space.
                tracing::warn!(%error, "could not remove an old snapshot file");
            }
        }
        Ok(())
    }

    fn path(&self, index: u64) -> PathBuf {
        self.0.folder.join(format!("{index:016}.{EXTENSION}"))
    }

    fn indexes(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0
            .indexes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader from the beginning of the file, and the file's length.
fn from_beginning<'a>(file: &'a mut File, path: &Path) -> Result<(BufReader<&'a mut File>, u64)> {
    let length = file
        .rewind()
        .and_then(|()| file.metadata())
        .map_err(Error::io("read", path))?
        .len();
    Ok((BufReader::with_capacity(256 << 10, file), length))
}

fn index_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

fn is_file_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(named)) => (file.dev(), file.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(Error::io("remove", path)),
    }
}
