//! nsqd's V1 protocol. PURE: bytes in, actions out; no socket, clock or async.

pub(crate) mod command;
pub(crate) mod error;
pub(crate) mod identify;
pub(crate) mod names;
pub(crate) mod reply;
pub(crate) mod session;
