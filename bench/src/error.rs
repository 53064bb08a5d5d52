//! What ends a run early.

use std::io;
use std::time::Duration;

use crate::targets::Kind;

/// The result of anything that speaks with a target.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A call to the operating system failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The other side ended the connection.
    #[error("the connection was closed by the other side")]
    Closed,
    /// The other side answered something that it should not.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// What was waited for did not happen.
    #[error("waited {} s in vain for {what}", waited.as_secs())]
    Waited {
        /// What did not happen.
        what: String,
        /// For how long.
        waited: Duration,
    },
    /// The workload kills processes, and these were not started by the benchmark.
    #[error("this {0} was not started by the benchmark, which therefore does not kill it")]
    NotOurs(Kind),
    /// Some scenarios did not come to their end; each has said why.
    #[error("{0} scenarios failed: what they did not measure is missing")]
    Incomplete(usize),
}

impl Error {
    /// For `map_err`: says what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
