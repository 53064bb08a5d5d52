//! Gets registration events agreed among the members.
//!
//! [`Registry`] is what the rest of the program calls. Behind it:
//!
//! - A write: [`owner`] (what the sessions lack) and `requests` (what is asked for over HTTP) ->
//!   `batcher` (one ordered batch per member in flight) -> `leader_link` (here or at a peer) ->
//!   `proposer` (merges the members' batches into one log entry) -> openraft.
//! - openraft keeps the log in [`log_store`] (what needs it on disk waits for `durable_end`), applies it through [`state_machine`], and talks to
//!   peers through `network`.
//! - A read: `barrier` (shared rounds) -> `read_round` -> `read_lane` (a question to a peer, which
//!   `read_answers` answers by the rules of `read_authority`) -> `registry_state`; by the leader's
//!   clock, which `cluster_clock` carries on.
//! - Peers: `peer_message`, `peer_client`, `peer_listener`, `peer_server`: HTTP/1.1 with encoded
//!   bodies; `frames` for what is asked all the time, by `read_lane` and `write_lane` (which
//!   `write_answers` answers).
//! - Who belongs to the cluster: `identity` (on disk), `forming` (empty disks), `membership`
//!   (changes, decided by the leader), `removal` (noticed by who was removed).
//! - Watching: `keep_alive` and `absence` (members that are away), `sweeping` (what goes step by
//!   step, and what expires), `leader_watch` (quicker elections), `transitions` (the log),
//!   `compaction`.
//! - All of it runs on threads of its own: `runtime`.
//!
//! # Invariants
//! - A batch is repeated until its fate is known, and applied once, in order per member.
//! - After [`Registry::barrier`] a read at this member shows everything acknowledged before.
//! - A Raft node id is never used by two data paths.

mod absence;
pub mod accept;
mod barrier;
mod batcher;
mod cluster_clock;
mod compaction;
mod config;
mod durable_end;
pub mod error;
mod forming;
mod frames;
mod identity;
mod keep_alive;
mod leader_link;
mod leader_watch;
mod log_facts;
pub mod log_store;
mod membership;
mod network;
pub mod owner;
mod peer_client;
mod peer_listener;
mod peer_message;
mod peer_server;
mod proposer;
mod quorum_contact;
mod read_answers;
mod read_authority;
mod read_lane;
mod read_round;
mod registry;
mod registry_state;
mod removal;
mod requests;
mod runtime;
pub mod state_machine;
mod status;
mod sweeping;
mod transitions;
pub mod types;
mod write_answers;
mod write_lane;

pub use config::Config;
pub use error::{Error, Result};
pub use forming::Forming;
pub use raftlookupd_storage as storage;
pub use registry::Registry;
pub use requests::Pending;
pub use status::{MemberStatus, Status};
