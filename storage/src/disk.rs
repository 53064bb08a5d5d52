//! Provides files that survive a crash, whatever is stored in them.
//!
//! - [`record_file`]: one small value, replaced as a whole.
//! - `write_gate`: the exclusive right to write to a data path, lost with the first failure.
//! - `fs`: durable folders.

pub(crate) mod fs;
pub mod record_file;
pub(crate) mod write_gate;
