//! Reads the wall clock, in the unit of the registry's times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock, in milliseconds since the Unix epoch; 0 before it.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
