//! Stores what a raftlookupd member must remember: the Raft log and the registry.
//!
//! This crate knows neither Raft nor sockets. The crate `raft` decides what is appended and
//! applied.
//!
//! # A tour
//! Follow one event from its definition to the disk:
//!
//! 1. [`registry::values`] and [`registry::event`]: what a registration consists of, and the
//!    replicated format. Formats outlive code, so read these first.
//! 2. [`registry::db`]: the [`RegistrationDb`](registry::db::RegistrationDb) applies events and
//!    answers queries. It is pure: time and randomness are inputs. Its module doc has the rules.
//!    `claims` applies REGISTER and UNREGISTER, `attachments` the starts and ends of sessions,
//!    `members` and `absence` the batches and absences of members, `topics` HTTP writes; `queries`
//!    and `pages` read.
//! 3. [`registry::rows`]: the registry's encoding, and the state hash that tells whether two members
//!    have the same registry.
//! 4. [`log`]: the Raft log and the vote, in append-only files. [`LogTable`](log::LogTable) has
//!    the operations; `record`, `segments` and `segment_files` handle the files; `sync_thread` and
//!    `durable_mark` make appends durable; `recovery` and `replay` open a log.
//! 5. [`snapshots`]: whole registries in checksummed files. With the log behind them, they are the
//!    truth.
//! 6. [`store`]: the [`Store`](store::Store) opens a data path and hands out the log, the snapshot
//!    files and the [`RegistrationStore`](store::registration_store::RegistrationStore), which
//!    writes the registry to sled, behind the applied index. Only that store knows sled.
//!    `loading` finds the registry at a start, and rebuilds sled if it is damaged.
//! 7. [`disk`]: what all need from the file system: durable folders, small records, and the gate
//!    that closes a data path to writes after the first failure.
//!
//! [`encoding`] puts a version in front of every stored or sent value. [`error`] has the errors.
//!
//! Imports point one way: `store` uses all others; `snapshots` uses `registry` and `disk`; `log` uses
//! `disk`; `registry` and `disk` use none of the others.
//!
//! # Invariants
//! - The log is purged only up to what a durable snapshot file contains.
//! - Damaged tables are rebuilt from a snapshot file and the log. If these are damaged, too, nothing is
//!   repaired: opening the store fails, every time.
//! - An append or a vote that was reported durable survives `kill -9` and power loss.
//! - Two members that have applied the same log up to the same index have the same rows, and so
//!   the same [`state hash`](registry::db::RegistrationDb::state_hash).
//! - A violated invariant is an [`Error::Invariant`] and stops the member. Debug builds also assert
//!   what each transition relies on.

pub mod disk;
pub mod encoding;
pub mod error;
pub mod log;
pub mod registry;
pub mod snapshots;
pub mod store;

// Short paths for what the other crates import.
pub use disk::record_file;
pub use error::{Error, Result};
pub use log as log_table;
pub use registry::{db as registration_db, event, rows, values as registration};
pub use store::registration_store;
