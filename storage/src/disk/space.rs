//! Measures the space of the disk that holds a data path.

use std::path::Path;

use crate::error::{Error, Result};

/// The space of a disk, as far as this process may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Measures the disk that holds this folder.
///
/// # Errors
/// [`Error::Io`] if that fails.
pub fn measure(folder: &Path) -> Result<Space> {
    let stat =
        rustix::fs::statvfs(folder).map_err(|error| Error::io("measure", folder)(error.into()))?;
    Ok(Space {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_space() {
        let folder = tempfile::tempdir().unwrap();
        let space = measure(folder.path()).unwrap();
        assert!(space.free > 0 && space.free <= space.total);
        measure(&folder.path().join("missing")).unwrap_err();
    }
}
