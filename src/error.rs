//! Everything that keeps a member from starting, or ends it.

use std::path::PathBuf;

use raftlookupd_raft as raft;

/// The one error of this crate. Its text is one line, and what nsqlookupd would say where it
/// would say something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the environment cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// The command line names a flag that does not exist.
    #[error("{0}")]
    UnknownFlag(String),
    /// The configuration file cannot be read, or is no TOML.
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
    /// Settings that are fine each for itself do not fit together.
    #[error("invalid value {value:?} for {flag}: {reason}")]
    Setting {
        /// The flag, without dashes.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        reason: String,
    },
    /// An address cannot be listened on.
    #[error("failed to instantiate nsqlookupd - listen ({address}) failed - {reason}")]
    Listen {
        /// As configured.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The member could not become, or find again, its part of the cluster.
    #[error("cannot start: {0}")]
    Start(#[source] raft::Error),
    /// The member ran, and cannot go on.
    #[error("cannot go on: {0}")]
    Failed(#[source] raft::Error),
    /// A part of the program ended that never should.
    #[error("cannot go on: {0} ended unexpectedly")]
    Ended(&'static str),
    /// The cluster of `raftlookupd dev` could not be started.
    #[error("{0}")]
    Dev(String),
    /// A registry that `raftlookupd import` or `diff` asks did not answer as it should.
    #[error("{0}")]
    Lookupd(String),
    /// `raftlookupd diff` could not find out whether something differs.
    #[error(transparent)]
    NotCompared(Box<Error>),
    /// The operating system refused something that every program may do.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// What the process ends with: 2 for what the program was told, and for a `diff` that failed, since its
    /// 1 says that something differs; 74 (`EX_IOERR`) for the disk and what is on it, so that a
    /// supervisor can tell "do not just try again"; else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_)
            | Error::UnknownFlag(_)
            | Error::Setting { .. }
            | Error::NotCompared(_) => 2,
            Error::Start(error) | Error::Failed(error) => match error {
                raft::Error::Storage(_) | raft::Error::StorageFailed(_) => 74,
                _ => 1,
            },
            _ => 1,
        }
    }
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
