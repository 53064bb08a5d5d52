//! The registry as pure data: values, events, the rules that apply them, and its stored forms.
//!
//! Nothing here knows a clock, a socket, a thread or a disk.

pub mod db;
pub mod event;
pub mod rows;
pub mod snapshot;
pub mod values;
