//! `raftlookupd import` and `raftlookupd diff`: from running nsqlookupds to a cluster.
//!
//! Both read what the sources and the cluster list (`lookupd` asks, `fetch` puts the answers
//! together as an `Inventory`) and compare it (`difference`, pure). `diff` prints the outcome;
//! `import` creates at the cluster what is only at the sources (`plan`, pure). Everything goes through the
//! public HTTP interface, so each side can be an nsqlookupd or a member.
//!
//! # Invariants
//! - Nothing is ever deleted, on either side, and nothing is written to a source.
//! - What is imported is only what is missing, so an import can be repeated at any time.
//! - Everything is read before anything is written.
//! - Names from the network are checked before they are used or shown.

mod address;
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

pub use args::{Command, Diff, Import, Request, read};

/// How a command ended that did what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Imported, or nothing differs.
    Well,
    /// The registries differ.
    Different,
}

/// Runs `import` or `diff`. What was found out goes to standard output, everything else to
/// standard error.
///
/// # Errors
/// [`Error::Lookupd`], for a `diff` as [`Error::NotCompared`].
pub async fn run(command: Command) -> Result<Ended> {
    match command {
        Command::Import(import) => import::run(import).await.map(|()| Ended::Well),
        Command::Diff(diff) => diff::run(diff)
            .await
            .map_err(|error| Error::NotCompared(Box::new(error))),
    }
}
