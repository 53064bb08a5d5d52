//! Defines this crate's error.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An I/O error. The member must stop: memory and disk may differ from here on.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `write`, `sync`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What was read is not what was written, and cannot be rebuilt. Nothing is repaired or deleted,
    /// except what sled's recovery could not read. Opening the store again gives the same error.
    #[error(
        "the store in {} is damaged: {what}. Restore it from a copy, or start this member with an \
         empty --data-path, so that it gets its state from the other members",
        path.display()
    )]
    Corrupt {
        /// The data path.
        path: PathBuf,
        /// What is inconsistent, in one clause.
        what: String,
    },
    /// A stored or received value cannot be decoded.
    #[error("{what} cannot be decoded: {reason}")]
    Encoding {
        /// Which kind of value.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The data was written by a newer raftlookupd.
    #[error(
        "{} has data of format {found}, this version reads up to {supported}: start the newer \
         version that wrote it",
        path.display()
    )]
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
        "{} has data of format {found}, this version reads format {supported} and later ones. Keep \
         it, start with an empty --data-path, and bring the topics and channels over with `raftlookupd \
         import` from a member that still runs the older version",
        path.display()
    )]
    OlderFormat {
        /// The data path.
        path: PathBuf,
        /// The format on disk.
        found: u32,
        /// The oldest format known here.
        supported: u32,
    },
    /// The program has violated one of its own rules. The member must stop: what it has in memory
    /// cannot be trusted any longer, and a restart rebuilds it from disk.
    #[error(
        "invariant violated: {what}. This is a bug: please report this line. Restart this member; if \
         it stops again, keep its data path for the report, and start it with an empty --data-path, \
         so that it gets its state from the other members"
    )]
    Invariant {
        /// What is wrong, in one clause.
        what: String,
    },
    /// Another process uses the data path.
    #[error(
        "{} is in use by another process: stop it, or use another --data-path",
        path.display()
    )]
    Locked {
        /// The data path.
        path: PathBuf,
    },
}

impl Error {
    /// Wraps an I/O error, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }

    /// Whether there is no space left on the disk, or in the user's share of it.
    pub fn is_disk_full(&self) -> bool {
        let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
        matches!(self, Error::Io { source, .. } if full.contains(&source.kind()))
    }

    /// For branches that only a bug can reach.
    pub fn invariant(what: impl Into<String>) -> Error {
        Error::Invariant { what: what.into() }
    }

    /// Damage in the store at `data_path`.
    pub(crate) fn corrupt(data_path: &Path, what: impl Into<String>) -> Error {
        Error::Corrupt {
            path: data_path.to_path_buf(),
            what: what.into(),
        }
    }
}

/// The result of this crate's fallible calls.
pub type Result<T> = std::result::Result<T, Error>;
