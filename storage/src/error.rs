//! Everything that can go wrong while remembering.

use std::path::{Path, PathBuf};

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused. The member must stop: what it holds in memory and what is
    /// on disk may differ from here on.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `write`, `sync`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What was read back is not what was written. We repair and delete nothing; what sled's
    /// own recovery could not read is gone by then, and opening it again gives the same error.
    #[error("the store in {} is damaged: {what}", path.display())]
    Corrupt {
        /// The data path.
        path: PathBuf,
        /// What does not fit, in one clause.
        what: String,
    },
    /// A stored or received value does not decode.
    #[error("{what} cannot be decoded: {reason}")]
    Encoding {
        /// Which kind of value.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The data was written by a newer raftlookupd.
    #[error("{} has data of format {found}; this version reads up to {supported}", path.display())]
    NewerFormat {
        /// The data path.
        path: PathBuf,
        /// The format on disk.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// The data was written by an older raftlookupd, in a format that was never released.
    #[error(
        "{} has data of format {found}; this version reads format {supported} only. Keep it, start \
         with an empty --data-path, and bring the topics and channels over with `raftlookupd \
         import` from a member that still runs the older version",
        path.display()
    )]
    OlderFormat {
        /// The data path.
        path: PathBuf,
        /// The format on disk.
        found: u32,
        /// The only format known here.
        supported: u32,
    },
    /// Another process uses the data path.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The data path.
        path: PathBuf,
    },
}

impl Error {
    /// For `map_err`: what was tried, and on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }

    /// What does not fit in the store at `data_path`.
    pub(crate) fn corrupt(data_path: &Path, what: impl Into<String>) -> Error {
        Error::Corrupt {
            path: data_path.to_path_buf(),
            what: what.into(),
        }
    }
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
