//! Runs `raftlookupd cluster`: shows who belongs to a cluster and how it is, and changes that.
//!
//! Everything goes over the HTTP interface of the first endpoint that answers; that member takes a
//! change to the leader. The exit status says what happened, so that scripts need not read text.
//!
//! - `args`: the flags.
//! - `client`: asks the endpoints.
//! - `show`: tables and JSON.
//! - `verbs`: what each verb does.

mod args;
mod client;
mod show;
mod verbs;

pub use args::{Cluster, read};
pub use verbs::run;
