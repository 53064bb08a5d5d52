//! Configures an owner: its timeouts and limits.

use std::time::Duration;

/// The timeouts and limits of an owner.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// After this time without PING a session is silent.
    pub inactive_producer_timeout: Duration,
    /// How long a command waits to be decided. nsqd allows a lookupd one second.
    pub patience: Duration,
    /// The same while an earlier command of the session is overdue: an nsqd that waits half a second
    /// a thousand times neglects its other lookupds for minutes.
    pub patience_when_late: Duration,
    /// The limit of undecided changes per session, in bytes.
    pub most_undecided: usize,
    /// The limit of undecided changes in total, in bytes.
    pub most_undecided_in_total: usize,
}

impl Settings {
    /// The usual limits.
    pub fn with_timeout(inactive_producer_timeout: Duration) -> Self {
        Settings {
            inactive_producer_timeout,
            patience: Duration::from_millis(500),
            patience_when_late: Duration::from_millis(10),
            most_undecided: 24 << 20,
            most_undecided_in_total: 64 << 20,
        }
    }
}
