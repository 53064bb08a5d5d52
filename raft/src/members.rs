//! Changes who belongs to the cluster.
//!
//! - `membership`: the leader's decisions: admit, promote, note an address.
//! - `placement`: a member asks for them.
//! - `removal`: a member finds out that it was removed.
//! - `steps`: which changes would cost the cluster its quorum, or its tolerance of failures; pure.

pub(crate) mod membership;
pub(crate) mod placement;
pub(crate) mod removal;
pub(crate) mod steps;
