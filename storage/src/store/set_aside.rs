//! Moves the contents of a data path into a folder inside it, so that a member can begin anew and
//! nothing is deleted.

use std::fs;
use std::path::{Path, PathBuf};

use super::layout;
use crate::disk::fs::{create_private_folder, sync_folder};
use crate::error::{Error, Result};

/// Followed by a number: what was set aside.
const PREFIX: &str = "set-aside-";

/// Ends the folder's name while it is being filled.
const UNFINISHED: &str = ".unfinished";

/// Sets everything in a data path aside, which no process may use. Returns the folder.
///
/// # Errors
/// [`Error::Locked`] if a process uses it, [`Error::Io`] if it cannot be moved.
pub fn set_aside(data_path: &Path) -> Result<PathBuf> {
    let _locked = layout::lock(data_path)?;
    let name = |number: u32| format!("{PREFIX}{number}");
    let taken = |number: &u32| {
        let folder = data_path.join(name(*number));
        folder.exists() || data_path.join(name(*number) + UNFINISHED).exists()
    };
    let number = (1..).find(|number| !taken(number)).unwrap_or_default();
    create_private_folder(&data_path.join(name(number) + UNFINISHED))?;
    sync_folder(data_path)?;
    finish(data_path)?;
    Ok(data_path.join(name(number)))
}

/// Finishes what an earlier process has begun to set aside.
pub(super) fn finish(data_path: &Path) -> Result<()> {
    for name in names(data_path)? {
        let Some(done) = name.strip_suffix(UNFINISHED) else {
            continue;
        };
        let folder = data_path.join(&name);
        for entry in names(data_path)? {
            if entry != layout::LOCK_FILE && !entry.starts_with(PREFIX) {
                rename(&data_path.join(&entry), &folder.join(&entry))?;
            }
        }
        sync_folder(&folder)?;
        sync_folder(data_path)?;
        rename(&folder, &data_path.join(done))?;
        sync_folder(data_path)?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = Error::io("read", folder);
    let entries = fs::read_dir(folder).and_then(Iterator::collect);
    let entries: Vec<fs::DirEntry> = entries.map_err(failed)?;
    let names = entries.into_iter().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.into_string().ok()).collect())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("move", from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn sorted(folder: &Path) -> Vec<String> {
        let mut names = names(folder).unwrap();
        names.sort();
        names
    }

    #[test]
    fn everything_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let store = Store::open(path).unwrap();
        assert!(matches!(set_aside(path), Err(Error::Locked { .. })));
        store.close().unwrap();
        let before = sorted(path);
        let first = set_aside(path).unwrap();
        assert_eq!(sorted(path), ["LOCK", "set-aside-1"]);
        let mut kept = sorted(&first);
        kept.push("LOCK".into());
        kept.sort();
        assert_eq!(kept, before);

        Store::open(path).unwrap().close().unwrap();
        let second = set_aside(path).unwrap();
        assert_eq!(second, path.join("set-aside-2"));
        Store::open(&first).unwrap();
    }

    #[test]
    fn what_was_interrupted_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        Store::open(path).unwrap().close().unwrap();
        let unfinished = path.join("set-aside-1.unfinished");
        fs::create_dir(&unfinished).unwrap();
        rename(&path.join("format"), &unfinished.join("format")).unwrap();
        Store::open(path).unwrap().close().unwrap();
        assert!(path.join("set-aside-1").join("sled").exists());
    }
}
