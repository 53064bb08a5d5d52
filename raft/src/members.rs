//! Changes who belongs to the cluster.
//!
//! - `change_link`: takes an operator's change to the leader.
//! - `handover`: hands leadership to a follower.
//! - `listed`: reports a list that differs from the recorded members.
//! - `membership`: the leader's decisions: admit, promote, note an address.
//! - `placement`: a member asks for them.
//! - `removal`: a member finds out that it was removed.
//! - `steps`: which changes would cost the cluster its quorum, or its tolerance of failures; pure.
//! - `verbs`: the leader makes the changes that operators ask for.

pub(crate) mod change_link;
pub(crate) mod handover;
pub(crate) mod listed;
pub(crate) mod membership;
pub(crate) mod placement;
pub(crate) mod removal;
pub(crate) mod steps;
mod verbs;
