//! One function for each endpoint and method, by theme.

pub(super) mod changes;
pub(super) mod cluster;
pub(super) mod lists;
pub(super) mod log_level;
pub(super) mod lookup;
pub(super) mod pprof;
pub(super) mod status;
