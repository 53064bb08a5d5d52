//! Implements nsqd's V1 protocol. PURE: bytes in, actions out; no socket, clock or async.
//!
//! `session` runs one connection; it parses lines with `command` and the IDENTIFY body with
//! `identify`. `names` validates, `error` and `reply` have what is answered.

pub(crate) mod command;
pub mod error;
pub(crate) mod identify;
pub(crate) mod names;
pub(crate) mod reply;
pub mod session;
pub mod verb;
