//! Defines the error of this crate: what keeps the program from starting, or ends it.

use std::path::PathBuf;

use raftlookupd_raft as raft;

use crate::outcome::Failed;

/// The error of this crate. Its text is one line, in nsqlookupd's words where it has any.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the environment cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// The command line names a flag that does not exist.
    #[error("{0}")]
    UnknownFlag(String),
    /// The first word of the command line is neither a flag nor a command.
    #[error("{0}")]
    UnknownCommand(String),
    /// The configuration file cannot be read, or is not TOML.
    #[error("failed to load config file {} - {reason}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Why not, with the line if there is one.
        reason: String,
    },
    /// The configuration file names a log level that does not exist.
    #[error("failed parsing log_level {value} - {reason}")]
    ConfigLogLevel {
        /// What the file says.
        value: String,
        /// What it could say.
        reason: String,
    },
    /// A value in the configuration file is not what its key needs.
    #[error("failed to coerce value for {key} ({value}) - {reason}")]
    ConfigValue {
        /// The key.
        key: String,
        /// What the file says.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// Settings that are each valid do not fit together.
    #[error("invalid value {value:?} for {flag}: {reason}")]
    Setting {
        /// The flag, without dashes.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// The member cannot listen on an address.
    #[error("failed to instantiate nsqlookupd - listen ({address}) failed - {reason}")]
    Listen {
        /// As configured.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The member could not form, join or rejoin its cluster.
    #[error("cannot start: {0}")]
    Start(#[source] raft::Error),
    /// The member ran, and cannot continue.
    #[error("cannot continue: {0}")]
    Failed(#[source] raft::Error),
    /// A part of the program ended that never should.
    #[error("cannot continue: {0} ended unexpectedly; restart the member")]
    Ended(&'static str),
    /// The cluster of `raftlookupd dev` could not be started.
    #[error("{0}")]
    Dev(String),
    /// An nsqlookupd or member did not answer `raftlookupd import` or `diff` as it should.
    #[error("{0}")]
    Lookupd(String),
    /// A `raftlookupd cluster` command did not do what it was told.
    #[error(transparent)]
    Cluster(#[from] Failed),
    /// `raftlookupd diff` could not determine whether something differs.
    #[error(transparent)]
    NotCompared(Box<Error>),
    /// `raftlookupd recover` cannot use a data path.
    #[error(transparent)]
    Recover(raft::Error),
    /// The operating system refused something ordinary.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// The exit code of the process: 2 for a wrong command line or configuration, and for a `diff`
    /// that failed, whose 1 means that something differs; 74 (`EX_IOERR`) for the disk and what is on
    /// it, and 77 (`EX_NOPERM`) for a member that was removed, so that a supervisor can tell that a
    /// restart alone does not help; otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_)
            | Error::UnknownFlag(_)
            | Error::UnknownCommand(_)
            | Error::Setting { .. }
            | Error::NotCompared(_) => 2,
            Error::Cluster(failed) => failed.kind.exit_code(),
            Error::Start(error) | Error::Failed(error) | Error::Recover(error) => match error {
                raft::Error::Storage(_) | raft::Error::StorageFailed(_) => 74,
                raft::Error::Removed(_) => 77,
                _ => 1,
            },
            _ => 1,
        }
    }
}

/// The result of fallible calls of this crate.
pub type Result<T> = std::result::Result<T, Error>;
