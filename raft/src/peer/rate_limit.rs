//! Keeps what is repeated all the time from filling the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines with one key.
const INTERVAL: Duration = Duration::from_secs(60);

/// Keys that are remembered; while there are as many, new ones are not logged.
const MOST_KEYS: usize = 64;

/// When each key was logged last.
#[derive(Debug, Default)]
pub(crate) struct RateLimit(Mutex<BTreeMap<String, Instant>>);

impl RateLimit {
    /// Whether a line with this key may be logged at this moment.
    pub(crate) fn allows(&self, key: &str, now: Instant) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|_, at| now.duration_since(*at) < INTERVAL);
        if logged.contains_key(key) || logged.len() >= MOST_KEYS {
            return false;
        }
        logged.insert(key.to_string(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_for_each_key_and_not_too_many_keys() {
        let limit = RateLimit::default();
        let start = Instant::now();
        assert!(limit.allows("a", start));
        assert!(limit.allows("b", start));
        assert!(!limit.allows("a", start + INTERVAL / 2));
        assert!(limit.allows("a", start + INTERVAL));
        let later = start + 2 * INTERVAL;
        let logged = (0..100).filter(|key| limit.allows(&key.to_string(), later));
        assert_eq!(logged.count(), MOST_KEYS);
    }
}
