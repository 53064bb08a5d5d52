//! Gets registration events agreed among the members.
//!
//! A tour, in reading order:
//!
//! 1. [`types`], [`error`](Error), [`config`](Config), [`status`](Status), `change`: the words.
//! 2. [`registry`](Registry): what the rest of the program calls.
//! 3. [`owner`]: connects the log to this member's sessions: asks what they lack, reports what was
//!    applied.
//! 4. `write`: the way of an event from a member to the leader and into the log: `batcher` (one
//!    ordered batch per member in flight), `leader_link` (here or at a peer), `proposer` (merges
//!    the members' batches into one log entry).
//! 5. [`log`]: openraft's log and state machine over `storage`. What depends on the disk waits for
//!    `durable_index`.
//! 6. `read`: the barrier that makes a local read linearizable.
//! 7. `peer`: what members ask each other, and how it travels. Only this crosses machines.
//! 8. `cluster` (identity, forming, who leads) and `members` (admission, promotion, removal, handing over).
//! 9. `watch`: members that are away, elections, expiry, one log line for each transition.
//! 10. [`recovery`]: what a data path holds, and a new cluster of it when the quorum is lost.
//! 11. `node`: wires all of it together, on threads of its own.
//!
//! Imports between the folders run one way: `node` and `recovery` see all of them; then `watch` and `members`,
//! `write`, `read`, `log`, `cluster`, `peer`.
//!
//! # Invariants
//! - A batch is repeated until its fate is known, and applied once, in order per member.
//! - After [`Registry::barrier`] a read at this member shows everything acknowledged before.
//! - A Raft node id is never used by two data paths.

mod change;
mod cluster;
mod config;
pub mod error;
mod failure;
pub mod log;
mod members;
mod node;
pub mod owner;
mod peer;
mod read;
pub mod recovery;
mod registry;
mod status;
pub mod types;
mod watch;
mod write;

pub use change::{Changed, MembershipChange, Progress};
pub use cluster::identity::formed_alone;
pub use config::{Config, Forming};
pub use error::{Error, Result};
pub use raftlookupd_storage as storage;
pub use registry::Registry;
pub use status::{MemberStatus, Status};
pub use write::requests::Pending;
