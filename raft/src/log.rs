//! Keeps the Raft log and applies it.
//!
//! - `log_store`: openraft's log trait over storage's log; what needs entries on disk waits for
//!   `durable_index`.
//! - `state_machine`: applies committed entries to `registry_state`, the registry that reads see.
//! - `log_facts`: what reads must know of the log before openraft's metrics show it.
//! - `plausibility`: refuses messages that contradict the log.
//! - `compaction`: keeps the log short.

pub(crate) mod compaction;
pub(crate) mod durable_index;
pub(crate) mod log_facts;
pub mod log_store;
pub(crate) mod plausibility;
pub(crate) mod registry_state;
pub mod state_machine;
