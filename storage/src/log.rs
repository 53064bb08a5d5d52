//! Stores the Raft log, the vote and the purge point, as bytes in files.
//!
//! The log is a sequence of files, its segments (`segments`), to which records are appended
//! (`record`): entries, but also truncations and purges, so nothing that was written is ever
//! changed. Memory holds only the position of each entry (`state`). The vote is stored in the
//! durable mark (`durable_mark`).
//!
//! An append is readable when it returns. It is durable when its callback is called: a thread
//! (`sync_thread`) syncs once for all appends that have accumulated and then calls their callbacks.
//! The same thread removes segments that hold only purged entries, and advances the durable mark.
//! Every sync is timed (`sync_times`).
//!
//! # Invariants
//! - Entries above the purge point are contiguous. On disk this holds at every instant: an
//!   interrupted truncation leaves a longer log, not a hole.
//! - Entries at or below the purge point are never read, whether deleted yet or not.
//! - The durable mark never promises more than was synced, and is lowered, durably, before a
//!   truncation.
//! - A segment with a successor is complete and durable. What the log must keep of removed segments
//!   is repeated at the start of the next.
//! - After a failed write or sync, nothing is appended and no vote is saved until a restart.

pub(crate) mod durable_mark;
mod record;
mod recovery;
mod replay;
pub(crate) mod segment_files;
mod segments;
mod shared;
mod state;
mod sync_thread;
pub mod sync_times;
mod table;

pub use durable_mark::StoredVote;
pub use table::LogTable;
