//! Carries messages between members.
//!
//! - `message`: what members ask each other.
//! - `frames`: connections that stay open and carry length-prefixed values.
//! - `client`: calls a peer, with a deadline.
//! - `write_lane`, `read_lane`: the client sides of writes and of read indexes.

pub(crate) mod client;
pub(crate) mod frames;
pub(crate) mod message;
pub(crate) mod read_lane;
pub(crate) mod write_lane;
