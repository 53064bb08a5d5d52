//! Wires a member together: may see everything, and only the registry handle sees it.
//!
//! - `runtime`: the threads that all of it runs on.
//! - `network`: openraft's way to the peers.
//! - `peer_listener`, `peer_server`, `write_answers`, `read_answers`: what peers are answered.

pub(crate) mod network;
pub(crate) mod peer_listener;
pub(crate) mod peer_server;
pub(crate) mod read_answers;
pub(crate) mod runtime;
pub(crate) mod write_answers;
