//! A replicated, persistent drop-in for nsqlookupd: the part that faces nsqds, consumers, operators.
//!
//! The members of a cluster answer like one nsqlookupd that never forgets. This crate turns what
//! nsqds and consumers send into events and queries. How the members agree on events is the matter of
//! [`raftlookupd_raft`]; what they keep, of [`raftlookupd_raft::storage`].
//!
//! # A tour, in reading order
//!
//! nsqd sends `REGISTER orders billing` and waits for `OK`. On the way:
//!
//! 1. [`commands`] sees that the command line names none, so a member runs; [`config`] reads its flags,
//!    environment and file, and [`logging`] starts the log.
//! 2. [`run`] (`member`) binds the listeners (`listen`), starts the servers, loads the registry, and
//!    stops all of it when [`signals`] say so.
//! 3. [`nsqd`]: `server` accepts the connection, `connection` reads the line,
//!    [`nsqd::protocol`] parses it into a claim. PURE.
//! 4. `nsqd::keeper` passes the claim to [`nsqd::owner`], which notes that the session wants the name
//!    and, when the next batch is made, compares that with what is recorded. PURE. The missing event
//!    goes to [`raftlookupd_raft`].
//! 5. Once it is committed, the owner answers the command, and `connection` writes `OK`.
//!
//! A consumer then sends `GET /lookup?topic=orders`:
//!
//! 6. [`http`] makes a barrier, reads the registry in memory, and answers. Its state is in `http::context`.
//!
//! Along the way, used by many: `metrics` counts, [`upstream_log`] logs what nsqlookupd logs, in its
//! words; [`error`], [`version`], `accept`, `clock`, `durations`, [`outcome`], `suggestion` and [`open_files`] are
//! small tools.
//!
//! # Invariants
//! - A member that has not loaded its state answers so; it never answers as if it were empty.
//! - A member that stops unlists no nsqd: consumers do not notice a rolling restart.
//! - Whatever ends the process is one line in the log, and an exit code.

mod accept;
mod clock;
pub mod commands;
pub mod config;
mod durations;
pub mod error;
pub mod http;
mod listen;
pub mod logging;
mod member;
mod metrics;
pub mod nsqd;
pub mod open_files;
pub mod outcome;
pub mod signals;
mod suggestion;
pub mod upstream_log;
pub mod version;

pub use member::run;
