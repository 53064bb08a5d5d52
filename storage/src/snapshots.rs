//! Keeps whole registries in checksummed files: the truth, together with the log behind them.
//!
//! The tables in sled can be rebuilt from the newest file and the log, so their loss costs a member
//! nothing. Therefore the log is purged only up to what a file contains.
//!
//! - `format`: the bytes of a snapshot, written and read as a stream. Peers send each other the same
//!   bytes.
//! - `files`: the files of a data path: complete when they have their name, the last two kept.

pub(crate) mod files;
pub(crate) mod format;

pub use files::SnapshotFiles;
