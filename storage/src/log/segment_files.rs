//! Creates, lists and removes the log's files.
//!
//! A file gets its name when its start is durable, so every file with a segment's name has a head.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Result as IoResult};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use super::record::{Position, Record};
use crate::disk::fs::sync_folder;
use crate::error::{Error, Result};

/// The log's folder in the data path.
pub(crate) const FOLDER: &str = "log";

/// The number of a log's first segment.
const FIRST: u64 = 1;

/// A segment of this size is not extended, except by a single write that is longer.
pub(super) const SEGMENT_BYTES: u64 = 4 << 20;

/// Files grow by this much, in zeros that are written ahead: while writes stay within them, a sync
/// changes no metadata. (Reserved but unwritten space would have to be marked as written, each
/// time.)
const STEP_BYTES: u64 = 1 << 20;

/// The log's folder in this data path.
pub(crate) fn folder_in(data_path: &Path) -> PathBuf {
    data_path.join(FOLDER)
}

/// The path of a segment.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016}.log"))
}

/// Creates the folder and an empty log in it, durably, unless there is one.
pub(crate) fn create_log(data_path: &Path) -> Result<()> {
    let folder = folder_in(data_path);
    let created = DirBuilder::new().mode(0o700).create(&folder);
    match created {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::io("create", &folder)(error));
        }
        _ => sync_folder(data_path)?,
    }
    if numbers(&folder)?.is_empty() {
        create(&folder, FIRST, &[])?;
    }
    Ok(())
}

/// Whether there is a log in this data path, whatever its contents.
pub(crate) fn has_log(data_path: &Path) -> Result<bool> {
    Ok(!numbers(&folder_in(data_path))?.is_empty())
}

/// The numbers of all segments in a folder, ascending; none if there is no folder.
pub(super) fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let files = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        files => files.map_err(Error::io("read", folder))?,
    };
    let mut numbers = Vec::new();
    for file in files {
        let name = file.map_err(Error::io("read", folder))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Creates a segment with its head and these records, durably. Returns the file and the length of
/// its contents.
pub(super) fn create(folder: &Path, number: u64, records: &[Record<'_>]) -> Result<(File, u64)> {
    let mut beginning = Vec::new();
    for record in [Record::Head { number }].iter().chain(records) {
        let offset = beginning.len() as u64;
        let position = Position {
            segment: number,
            offset,
        };
        record.write(position, &mut beginning);
    }
    let end = beginning.len() as u64;
    let path = path(folder, number);
    let temporary = path.with_extension("tmp");
    let file = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&temporary)
        .map_err(Error::io("create", &temporary))?;
    write_padded(&file, &mut beginning, 0, &mut 0)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("write", &temporary))?;
    std::fs::rename(&temporary, &path).map_err(Error::io("create", &path))?;
    sync_folder(folder)?;
    Ok((file, end))
}

/// Writes at `offset` and, if that extends the file, adds zeros behind it.
pub(super) fn write_padded(
    file: &File,
    bytes: &mut Vec<u8>,
    offset: u64,
    length: &mut u64,
) -> IoResult<()> {
    debug_assert!(offset <= *length, "a write leaves a gap in the file");
    let end = offset + bytes.len() as u64;
    if end > *length {
        let padded = end.next_multiple_of(STEP_BYTES);
        bytes.resize((padded - offset) as usize, 0);
        file.write_all_at(bytes, offset)?;
        *length = padded;
        return Ok(());
    }
    file.write_all_at(bytes, offset)
}

/// Removes the oldest segment, durably.
pub(super) fn remove(folder: &Path, number: u64) -> Result<()> {
    let path = path(folder, number);
    std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    // Synced one by one: if a crash loses some removals, there must be no gap.
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_created_once() {
        let data_path = tempfile::tempdir().unwrap();
        assert!(!has_log(data_path.path()).unwrap());
        create_log(data_path.path()).unwrap();
        let folder = folder_in(data_path.path());
        let file = path(&folder, FIRST);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), STEP_BYTES);
        std::fs::write(&file, b"something else").unwrap();
        create_log(data_path.path()).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"something else");
    }

    #[test]
    fn only_segments_have_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["0000000000000012.log", "0000000000000013.tmp", "x.log", "4"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        create(folder.path(), 2, &[]).unwrap();
        // The remains of an interrupted creation do no harm.
        create(folder.path(), 13, &[]).unwrap();
        assert_eq!(numbers(folder.path()).unwrap(), [2, 12, 13]);
        remove(folder.path(), 2).unwrap();
        assert_eq!(numbers(folder.path()).unwrap(), [12, 13]);
    }

    #[test]
    fn files_grow_in_steps() {
        let file = tempfile::tempfile().unwrap();
        let mut length = 0;
        for (offset, bytes, expected) in [
            (0, 10, STEP_BYTES),
            (10, 10, STEP_BYTES),
            (STEP_BYTES - 5, 5, STEP_BYTES),
            (STEP_BYTES, 5, 2 * STEP_BYTES),
            (STEP_BYTES, 3 << 20, 4 * STEP_BYTES),
        ] {
            write_padded(&file, &mut vec![1; bytes], offset, &mut length).unwrap();
            assert_eq!(
                (length, file.metadata().unwrap().len()),
                (expected, expected)
            );
        }
    }
}
