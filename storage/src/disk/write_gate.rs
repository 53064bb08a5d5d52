//! Closes a data path to writes after the first failure.
//!
//! After a failed write or sync, the kernel may have dropped the pages that it could not write
//! and may report the next `fsync` as a success ("fsyncgate"). Only a restart, which reads the
//! disk again, knows what is there. So everything that writes to the data path asks the same
//! gate, and one failure anywhere closes it until the restart.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

/// The right to write to a data path. Clones share it; the data path stays locked until the last
/// one is dropped.
#[derive(Clone)]
pub(crate) struct WriteGate(Arc<Inner>);

struct Inner {
    data_path: PathBuf,
    /// Set once: why writes are refused.
    closed: OnceLock<String>,
    _lock: File,
}

impl WriteGate {
    /// An open gate. `lock` is the data path's lock file.
    pub(crate) fn new(data_path: &Path, lock: File) -> WriteGate {
        WriteGate(Arc::new(Inner {
            data_path: data_path.to_path_buf(),
            closed: OnceLock::new(),
            _lock: lock,
        }))
    }

    /// The data path behind the gate.
    pub(crate) fn data_path(&self) -> &Path {
        &self.0.data_path
    }

    /// Fails if the gate is closed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.closed.get() {
            None => Ok(()),
            Some(reason) => Err(Error::Io {
                action: "write to",
                path: self.0.data_path.clone(),
                source: std::io::Error::other(reason.clone()),
            }),
        }
    }

    /// Passes on the outcome of a write or sync; a failed one closes the gate.
    pub(crate) fn close_if_failed<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            self.close(&format!("{error}; no further writes until a restart"));
        }
        outcome
    }

    /// Refuses all further writes, for this reason.
    pub(crate) fn close(&self, reason: &str) {
        // Only the first reason counts: later failures follow from it.
        let _ = self.0.closed.set(reason.to_string());
    }
}

#[cfg(test)]
impl WriteGate {
    /// A gate of its own lock file, for tests of what is behind it.
    pub(crate) fn for_tests(data_path: &Path) -> WriteGate {
        let lock = File::create(data_path.join("LOCK")).unwrap();
        WriteGate::new(data_path, lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_closes_it_for_every_clone() {
        let folder = tempfile::tempdir().unwrap();
        let gate = WriteGate::for_tests(folder.path());
        let other = gate.clone();
        gate.close_if_failed(Ok(())).unwrap();
        other.check().unwrap();
        let failed = std::io::Error::other("no space left");
        let failed: Result<()> = Err(Error::io("sync", folder.path())(failed));
        gate.close_if_failed(failed).unwrap_err();
        gate.close("the store is closed");
        let reason = other.check().unwrap_err().to_string();
        assert!(reason.contains("no space left"), "{reason}");
        assert!(reason.ends_with("until a restart"), "{reason}");
    }
}
