//! Owns this member's sessions: knows what they want registered, and gets it recorded. PURE.
//!
//! For each producer the owner keeps what its open sessions have registered: that is *wanted*. What
//! the registry holds for (producer, this member) is *recorded*. The reconciler compares the two and
//! proposes the difference whenever a batch has room. Nothing is queued: what is no longer wanted
//! when a batch is made is not proposed.
//!
//! - Claims of several sessions of one producer add up; each session withdraws only its own.
//! - What an earlier incarnation recorded is *inherited*: it is not wanted, but not released until
//!   its nsqd's first PING here, or until the timeout.
//! - A command is answered when its change is committed, or when a barrier has proven that it is
//!   recorded already. Otherwise it is answered `E_UNAVAILABLE`, and what it asked for stays wanted.
//! - Deleting a name over HTTP removes it from the sessions whose own REGISTER was confirmed.
//!
//! # Invariants
//! - At most one change of a fact is undecided.
//! - What sessions have undecided is bounded, per session and in total.
//! - No clock, no socket, no lock: time is an argument, and the caller passes the current registry,
//!   every change of which [`Owner::applied`] has reported before.
//!
//! # Reading order
//! - Inputs and outputs: `settings`, `now`, `ids`, `effects`, `counts`.
//! - State: `claims` (of one session), `session`, `producer`, `state`.
//! - Clients: `commands`, which wait (`waiting`) or need a barrier (`confirming`), within `bounds`;
//!   `ending` and `sharing` concern sessions as a whole.
//! - Proposals: `proposing` asks `reconcile` (and `reviewing`) for one `fact` after another.
//! - Their outcome, and changes by others: `deciding`, `removed`, `loading`.
//! - Time: `looking`.

mod bounds;
mod claims;
mod commands;
mod confirming;
mod counts;
mod deciding;
mod effects;
mod ending;
mod fact;
mod ids;
mod loading;
mod looking;
mod now;
mod producer;
mod proposing;
mod reconcile;
mod removed;
mod reviewing;
mod session;
mod settings;
mod sharing;
mod state;
mod waiting;

pub use counts::Counts;
pub use effects::{CloseReason, Effect, Reply, Verdict};
pub use ids::{SessionId, Ticket};
pub use now::{Moment, Now};
pub use settings::Settings;
pub use state::Owner;
