//! Runs `raftlookupd import` and `raftlookupd diff`: from running nsqlookupds to a cluster.
//!
//! Both read what the sources and the cluster list (`lookupd` sends requests, `fetch` combines the
//! responses in an `Inventory`) and compare it (`difference`, pure). `diff` prints the outcome;
//! `import` creates in the cluster what only the sources have (`plan`, pure). Everything uses the
//! public HTTP interface, so each side can be an nsqlookupd or a member.
//!
//! # Invariants
//! - Nothing is ever deleted, on either side, and nothing is written to a source.
//! - Only what is missing is imported, so an import can be repeated at any time.
//! - Everything is read before anything is written.
//! - Names from the network are validated before they are used or printed.

mod args;
mod diff;
mod difference;
mod fetch;
mod import;
mod in_flight;
mod inventory;
mod lookupd;
mod plan;
mod progress;
mod sides;

use crate::error::{Error, Result};

pub use args::{Command, Diff, Import, read};
pub use diff::Ended;

/// Runs `import` or `diff`. Results go to standard output, everything else to standard error.
///
/// # Errors
/// [`Error::Lookupd`], wrapped in [`Error::NotCompared`] for a `diff`.
pub async fn run(command: Command) -> Result<Ended> {
    match command {
        Command::Import(import) => import::run(import).await.map(|()| Ended::Well),
        Command::Diff(diff) => diff::run(diff)
            .await
            .map_err(|error| Error::NotCompared(Box::new(error))),
    }
}
