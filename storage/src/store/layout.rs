//! Checks which files of a data path must be there together, and creates a new data path.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::registration_store::FOLDER as TABLES;
use super::{FORMAT, OLDEST_FORMAT};
use crate::disk::record_file::RecordFile;
use crate::error::{Error, Result};
use crate::log::durable_mark::{DurableMark, FILE as MARK_FILE, Mark};
use crate::log::segment_files::{FOLDER as LOG, create_log, has_log};

pub(super) const LOCK_FILE: &str = "LOCK";
/// The file that holds the format version. There from the first start on.
pub const FORMAT_FILE: &str = "format";

/// Locks the data path, until the file is dropped or the process ends.
pub(super) fn lock(data_path: &Path) -> Result<File> {
    let path = data_path.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            path: data_path.to_path_buf(),
        }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

/// What a data path has, or has been given.
pub(super) struct Found {
    pub(super) mark: DurableMark,
    /// The format of what is there.
    pub(super) format: u32,
    /// The tables are missing though there must have been some.
    pub(super) tables_missing: bool,
}

/// Checks a data path, or creates what a new one needs.
///
/// A new data path gets its mark first, then its format, log and tables. So a file that is missing
/// while a later one exists was lost.
pub(super) fn check_or_create(data_path: &Path) -> Result<Found> {
    let format = RecordFile::new(data_path.join(FORMAT_FILE));
    let found = format.load()?;
    // Before anything else is read: a newer format may have another mark.
    let version = match &found {
        Some(found) => checked_format(data_path, found)?,
        None => FORMAT,
    };
    let missing = |name| Err(Error::corrupt(data_path, format!("`{name}` is missing")));
    let has_tables = data_path.join(TABLES).exists();
    let mark = match (found, DurableMark::load(data_path)?) {
        (Some(_), Some(mark)) => mark,
        (Some(_), None) => return missing(MARK_FILE),
        (None, mark) => {
            let used = mark.is_some_and(|mark| mark.get() != Mark::default());
            if used || has_tables || has_log(data_path)? {
                return missing(FORMAT_FILE);
            }
            let mark = DurableMark::create(data_path)?;
            save_format(data_path)?;
            mark
        }
    };
    let used = mark.get() != Mark::default();
    if (used || has_tables) && !has_log(data_path)? {
        return missing(LOG);
    }
    create_log(data_path)?;
    Ok(Found {
        mark,
        format: version,
        tables_missing: used && !has_tables,
    })
}

/// Notes that the data path has the current format.
pub(super) fn save_format(data_path: &Path) -> Result<()> {
    let format = RecordFile::new(data_path.join(FORMAT_FILE));
    format.save(&FORMAT.to_be_bytes())
}

fn checked_format(data_path: &Path, found: &[u8]) -> Result<u32> {
    let found = <[u8; 4]>::try_from(found)
        .map(u32::from_be_bytes)
        .map_err(|_| Error::corrupt(data_path, format!("`{FORMAT_FILE}` is not a number")))?;
    if found < OLDEST_FORMAT {
        return Err(Error::OlderFormat {
            path: data_path.to_path_buf(),
            found,
            supported: OLDEST_FORMAT,
        });
    }
    if found > FORMAT {
        return Err(Error::NewerFormat {
            path: data_path.to_path_buf(),
            found,
            supported: FORMAT,
        });
    }
    Ok(found)
}
