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
    /// The program broke one of its own rules. The member must stop: what it has in memory can no
    /// longer be trusted, and a restart rebuilds it from disk.
    #[error(
        "invariant violated: {what}. This is a bug: please report this line. Restart this member; if \
         it stops again, keep its data path for the report, and start it with an empty --data-path, \
         so that it gets its state from the other members"
    )]
    Invariant {
        /// What is not as it must be, in one clause.
        what: String,
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

    /// A broken rule, for branches that cannot be reached unless the program is wrong.
    pub fn invariant(what: impl Into<String>) -> Error {
        Error::Invariant { what: what.into() }
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
