//! The same for programs.

use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::figures::Summary;
use crate::report::goals::Verdict;
use crate::report::machine::Machine;

/// Everything that a run has given.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    pub(crate) machine: Machine,
    /// As on the command line.
    pub(crate) arguments: Vec<String>,
    /// By position, to which `target` in the figures refers.
    pub(crate) targets: &'a [String],
    pub(crate) repetitions: usize,
    /// `closed`: latencies are service times. `open`: from when an operation was due.
    #[serde(rename = "loop")]
    pub(crate) kind_of_loop: &'static str,
    pub(crate) figures: &'a [Summary],
    pub(crate) promises: &'a [Verdict],
}

impl Report<'_> {
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from);
        let written = text.and_then(|text| std::fs::write(path, text + "\n"));
        written.map_err(Error::io(format!("write {}", path.display())))
    }
}
