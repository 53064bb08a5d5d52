//! What a raftlookupd member remembers.
//!
//! This crate knows neither Raft nor sockets. Four folders, in reading order:
//!
//! - [`registry`]: what is remembered, as pure data. Start with [`registry::values`] and
//!   [`registry::event`] (the replicated format), then [`registry::db`] (event in, changed rows
//!   out; queries take `now`), [`registry::rows`] and [`registry::snapshot`] (its stored forms).
//! - [`log`]: the Raft log and the vote, as bytes in files of their own.
//! - [`store`]: opens a data path, and keeps the registry in it, written behind.
//! - [`disk`]: files that survive a crash, whatever is stored in them.
//!
//! All of them use [`encoding`] (versioned bytes) and [`error`].
//!
//! # Invariants
//! - A damaged store is not repaired; opening it fails, again and again.
//! - An append or vote that was reported durable survives `kill -9` and power loss.
//! - Two members that have applied the same log up to the same index have the same rows,
//!   and so the same [`state hash`](registration_db::RegistrationDb::state_hash).

pub mod disk;
pub mod encoding;
pub mod error;
pub mod log;
pub mod registry;
pub mod store;

pub use disk::record_file;
pub use error::{Error, Result};
pub use log as log_table;
pub use registry::{db as registration_db, event, rows, snapshot, values as registration};
pub use store::registration_store;
