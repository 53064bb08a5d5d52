//! Brings events into the log.
//!
//! - `requests`: events that are asked for one by one, as over HTTP.
//! - `batcher`: one ordered batch of this member in flight.
//! - `leader_link`: takes it to the leader, here or at a peer.
//! - `proposer`: merges the members' batches into one log entry.
//! - `space`: what may be written while the disk is almost full.

pub(crate) mod batcher;
pub(crate) mod leader_link;
pub(crate) mod proposer;
pub(crate) mod requests;
pub(crate) mod space;
