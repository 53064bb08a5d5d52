//! Makes folders and the names in them durable.

use std::fs::{DirBuilder, File};
use std::path::Path;

use crate::error::{Error, Result};

/// Makes the names in a folder durable: files that were created, renamed or removed.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("sync", folder))
}

/// Creates a folder and its missing parents, durably. Only the owner gets access: whoever can
/// write to a data path decides where consumers connect.
pub(crate) fn create_private_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(Error::io("create", folder))?;
    for created in missing {
        sync_folder(parent_of(created))?;
    }
    Ok(())
}

/// The folder that holds this path; the current one for a bare name.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}
