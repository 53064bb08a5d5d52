//! Wires a member together: may see everything, and only the registry handle sees it.
//!
//! - `runtime`: the threads that all of it runs on.
//! - `network`: openraft's way to the peers.
//! - `peer_service`: what peers are answered.

pub(crate) mod network;
pub(crate) mod peer_service;
pub(crate) mod runtime;
