//! Files that survive a crash, whatever is stored in them.

pub mod record_file;
