//! nsqd's V1 protocol. PURE: bytes in, actions out; no socket, clock or async.

pub mod command;
pub mod error;
pub(crate) mod identify;
pub(crate) mod names;
pub(crate) mod reply;
pub mod session;
