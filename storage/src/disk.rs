//! Provides files that survive a crash, whatever is stored in them.
//!
//! - [`record_file`]: one small value, replaced as a whole.
//! - `write_gate`: the exclusive right to write to a data path, lost with the first failure.
//! - [`space`]: the free space of the disk.
//! - `fs`: durable folders.

pub(crate) mod fs;
pub mod record_file;
pub mod space;
pub(crate) mod write_gate;
