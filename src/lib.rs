//! A replicated, persistent drop-in for nsqlookupd: what speaks NSQ to the outside.
//!
//! Members of one cluster answer like one nsqlookupd that never forgets. This crate turns what
//! nsqds and consumers say into events and queries, and knows nothing of how the members agree
//! ([`raftlookupd_raft`]) or what they keep on disk.
//!
//! - The command line: [`config`] (flags, environment, file), [`logging`] ([`upstream_log`] in
//!   upstream's words), [`signals`].
//! - [`run`] is one member from its start to its end: binds, loads, serves, stops.
//! - nsqds: [`nsqd`]: bytes, what is said and answered, and what becomes of it in the registry.
//! - Consumers and nsqadmin: [`http`].
//! - What both share: [`context`] (what the member is called, and the registry once it has
//!   loaded), [`open_files`] (how many connections there can be).
//! - [`dev`] runs a whole cluster on one machine, each member in a process of its own.
//! - [`migrate`] brings what running nsqlookupds list into a cluster, and compares both.
//!
//! # Invariants
//! - A member that has not loaded its state answers so; it never answers from nothing.
//! - A member that stops takes nobody off the list: a rolling restart is seen by no consumer.
//! - What ends the process is one line in the log, and an exit code.

pub mod config;
pub mod context;
pub mod dev;
pub mod error;
pub mod http;
mod listen;
pub mod logging;
mod member;
mod metrics;
pub mod migrate;
pub mod nsqd;
pub mod open_files;
pub mod signals;
pub mod upstream_log;
pub mod version;

pub use member::run;
