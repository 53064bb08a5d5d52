//! Wires a member together: may see everything, and only the registry handle sees it.
//!
//! - `runtime`: the threads that all of it runs on.
//! - `opening`, `loading`, `running`: the start of a member in three steps, and its end.
//! - `network`: openraft's way to the peers.
//! - `append_calls`, `heartbeats`: AppendEntries that take longer than openraft waits, and those
//!   that nothing waits for.
//! - `peer_service`: what peers are answered.

pub(crate) mod append_calls;
pub(crate) mod heartbeats;
pub(crate) mod loading;
pub(crate) mod network;
pub(crate) mod opening;
pub(crate) mod peer_service;
pub(crate) mod running;
pub(crate) mod runtime;
pub(crate) mod standing;
