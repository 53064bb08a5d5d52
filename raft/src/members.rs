//! Changes who belongs to the cluster.
//!
//! - `listed`: reports a list that differs from the recorded members.
//! - `membership`: the leader's decisions: admit, promote, note an address.
//! - `placement`: a member asks for them.
//! - `removal`: a member finds out that it was removed.

pub(crate) mod listed;
pub(crate) mod membership;
pub(crate) mod placement;
pub(crate) mod removal;
