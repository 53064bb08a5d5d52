//! What a raftlookupd member remembers.
//!
//! This crate knows neither Raft nor sockets. From the inside out:
//!
//! - [`registration`] and [`event`]: the values, in upstream's words; `event` is the replicated format.
//! - [`registration_db`]: the pure, deterministic registry: event in, changed rows out; queries take `now`.
//! - [`rows`]: how the registry stands on disk and in snapshots, as ordered keys.
//! - [`encoding`]: versioned bytes for all that is stored or sent.
//! - [`store`]: opens a data path: locks it, checks it, gives out the two tables below.
//! - [`log_table`]: the Raft log, vote and purge point, as bytes in files, durable when it says so.
//! - [`registration_store`]: the registry on disk, written behind in atomic steps.
//! - [`snapshot`]: a whole registry as one checksummed value.
//! - `sled_engine`: the registry's tables; the only file that names sled.
//!
//! # Invariants
//! - A damaged store is not repaired; opening it fails, again and again.
//! - An append or vote that was reported durable survives `kill -9` and power loss.
//! - Two members that have applied the same log up to the same index have the same rows,
//!   and so the same [`state hash`](registration_db::RegistrationDb::state_hash).

pub mod encoding;
pub mod error;
pub mod event;
pub mod log_table;
pub mod record_file;
pub mod registration;
pub mod registration_db;
pub mod registration_store;
pub mod rows;
mod sled_engine;
pub mod snapshot;
pub mod store;

pub use error::{Error, Result};
