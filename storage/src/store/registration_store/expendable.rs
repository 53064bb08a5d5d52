//! Treats sled's files as expendable: removes what sled would stumble over, and sets a damaged folder
//! aside.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::disk::fs::sync_folder;
use crate::error::{Error, Result};

/// The folder of sled's files, in the data path.
pub(crate) const FOLDER: &str = "sled";

/// The folder that was set aside last.
const ASIDE: &str = "sled.damaged";

/// Sets the tables' folder aside, in place of the one that was set aside before. Returns its new
/// name; `None` if there is no folder.
pub(crate) fn set_aside(data_path: &Path) -> Result<Option<PathBuf>> {
    let (folder, aside) = (data_path.join(FOLDER), data_path.join(ASIDE));
    if !folder.exists() {
        return Ok(None);
    }
    remove_folder(&aside)?;
    std::fs::rename(&folder, &aside).map_err(Error::io("rename", &folder))?;
    sync_folder(data_path)?;
    Ok(Some(aside))
}

/// Removes the tables' folder.
pub(crate) fn discard(data_path: &Path) -> Result<()> {
    remove_folder(&data_path.join(FOLDER))?;
    sync_folder(data_path)
}

/// Whether the files themselves are at fault, so that new ones would do. A full disk, or missing
/// permissions, would be in the way of new ones, too.
pub(crate) fn is_damage(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } | Error::Encoding { .. } => true,
        Error::Io { source, .. } => !is_of_surroundings(source),
        _ => false,
    }
}

fn is_of_surroundings(error: &std::io::Error) -> bool {
    /// `ENFILE` and `EMFILE`: too many open files.
    const TOO_MANY_FILES: [i32; 2] = [23, 24];
    error
        .raw_os_error()
        .is_some_and(|number| TOO_MANY_FILES.contains(&number))
        || matches!(
            error.kind(),
            ErrorKind::StorageFull
                | ErrorKind::QuotaExceeded
                | ErrorKind::FileTooLarge
                | ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::OutOfMemory
                | ErrorKind::ResourceBusy
                | ErrorKind::Interrupted
        )
}

/// Removes what an interruption leaves and sled cannot cope with, though nothing is lost with it:
/// unfinished summaries (`snap.*.generating`), and settings (`conf`) that were cut off. sled writes
/// both anew.
pub(super) fn remove_leftovers(folder: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("read", folder))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_stump = name.starts_with("snap.") && name.ends_with(".generating");
        if is_stump || (name == "conf" && !is_whole(&path)?) {
            tracing::info!(file = %path.display(), "removing what an interruption has left");
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether sled's settings end with their checksum.
fn is_whole(settings: &Path) -> Result<bool> {
    let stored = std::fs::read(settings).map_err(Error::io("read", settings))?;
    let whole = stored
        .split_last_chunk::<4>()
        .is_some_and(|(text, checksum)| {
            !text.is_empty() && crc32fast::hash(text) == u32::from_le_bytes(*checksum)
        });
    Ok(whole)
}

fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(Error::io("remove", folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_damage() {
        let error = |kind: ErrorKind| Error::io("open", Path::new("db"))(kind.into());
        for kind in [ErrorKind::StorageFull, ErrorKind::PermissionDenied] {
            assert!(!is_damage(&error(kind)), "{kind}");
        }
        for kind in [ErrorKind::UnexpectedEof, ErrorKind::Other] {
            assert!(is_damage(&error(kind)), "{kind}");
        }
        let too_many_files = std::io::Error::from_raw_os_error(24);
        assert!(!is_damage(&Error::io("open", Path::new("db"))(
            too_many_files
        )));
    }

    #[test]
    fn only_the_last_folder_is_kept() {
        let data_path = tempfile::tempdir().unwrap();
        assert_eq!(set_aside(data_path.path()).unwrap(), None);
        for content in ["first", "second"] {
            std::fs::create_dir(data_path.path().join(FOLDER)).unwrap();
            std::fs::write(data_path.path().join(FOLDER).join("db"), content).unwrap();
            let aside = set_aside(data_path.path()).unwrap().unwrap();
            assert_eq!(std::fs::read_to_string(aside.join("db")).unwrap(), content);
        }
    }
}
