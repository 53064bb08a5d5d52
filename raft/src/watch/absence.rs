//! Decides, at the leader, which members are away. PURE.
//!
//! Only monotonic time counts, and only while the leader itself was running: a suspended process
//! receives nothing, and that is not the members' silence. A new leader first grants every member
//! the full time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;

/// A member is away after this long without a keep-alive: three missed.
pub(crate) const AWAY_AFTER: Duration = Duration::from_secs(3);

/// A leader that has not judged for this long was suspended.
const STOPPED: Duration = Duration::from_millis(2_500);

/// Least time between two records of the same member as away.
const AGAIN: Duration = Duration::from_secs(3);

/// A member as the leader sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) member: MemberId,
    /// Its last keep-alive, or the last log message that it accepted.
    pub(crate) heard: Option<Instant>,
    /// Whether it is recorded as away, or never proposed anything.
    pub(crate) settled: bool,
}

/// A member to be recorded as away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Absent {
    pub(crate) member: MemberId,
    /// For how long it was not heard, at least.
    pub(crate) silence: Duration,
}

/// The leader's judgement.
#[derive(Debug, Default)]
pub(crate) struct Absence {
    leading: Option<Leading>,
    recorded: BTreeMap<MemberId, Instant>,
}

#[derive(Debug)]
struct Leading {
    since: Instant,
    looked: Instant,
    /// When the previous leader was last heard: it would have noticed an earlier absence.
    led_before: Option<Instant>,
}

impl Absence {
    /// This member does not lead, or has no quorum.
    pub(crate) fn not_leading(&mut self) {
        self.leading = None;
    }

    /// Judges all other members; `led_before` is when this member last heard the previous
    /// leader.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        led_before: Option<Instant>,
        members: &[Seen],
    ) -> Vec<Absent> {
        let stopped = |leading: &Leading| now.duration_since(leading.looked) > STOPPED;
        if self.leading.as_ref().is_none_or(stopped) {
            self.leading = Some(Leading {
                since: now,
                looked: now,
                led_before,
            });
        }
        let Some(leading) = &mut self.leading else {
            return Vec::new();
        };
        leading.looked = now;
        let mut absent = Vec::new();
        for seen in members {
            let heard = seen.heard.max(leading.led_before).unwrap_or(leading.since);
            let quiet = now.duration_since(heard.max(leading.since)) > AWAY_AFTER;
            let recorded = self.recorded.get(&seen.member);
            let again = recorded.is_some_and(|at| now.duration_since(*at) < AGAIN);
            if seen.settled || !quiet || again {
                continue;
            }
            self.recorded.insert(seen.member, now);
            absent.push(Absent {
                member: seen.member,
                silence: now.duration_since(heard),
            });
        }
        absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second; the member is heard in those seconds, and recorded as away as soon as
    /// the judgement says so, unless it was refused.
    struct Story {
        absence: Absence,
        begin: Instant,
        heard: Option<Instant>,
        away: bool,
    }

    impl Story {
        fn new() -> Self {
            Story {
                absence: Absence::default(),
                begin: Instant::now(),
                heard: None,
                away: false,
            }
        }

        fn at(&self, millis: u64) -> Instant {
            self.begin + Duration::from_millis(millis)
        }

        fn hear(&mut self, millis: u64) {
            self.heard = Some(self.at(millis));
        }

        fn look(&mut self, millis: u64, led_before: Option<u64>) -> Option<u128> {
            let seen = Seen {
                member: 2,
                heard: self.heard,
                settled: self.away,
            };
            let led_before = led_before.map(|millis| self.at(millis));
            let absent = self.absence.judge(self.at(millis), led_before, &[seen]);
            absent.first().map(|absent| absent.silence.as_millis())
        }
    }

    #[test]
    fn three_keep_alives_missed() {
        let mut story = Story::new();
        for second in 0..10 {
            story.hear(1000 * second);
            assert_eq!(story.look(1000 * second + 100, None), None);
        }
        for second in 10..12 {
            assert_eq!(story.look(1000 * second, None), None);
        }
        assert_eq!(story.look(12_001, None), Some(3_001));
        story.away = true;
        assert_eq!(story.look(13_000, None), None);
    }

    #[test]
    fn a_refused_or_flapping_record_is_not_repeated_at_once() {
        let mut story = Story::new();
        let mut records = 0;
        for look in 0..100 {
            records += usize::from(story.look(100 * look, None).is_some());
        }
        assert_eq!(records, 3, "in ten seconds, the first after three");
    }

    #[test]
    fn a_new_leader_grants_the_whole_time_and_counts_from_the_one_before() {
        let mut story = Story::new();
        story.hear(500);
        for second in 10..14 {
            assert_eq!(story.look(1000 * second, Some(9_000)), None);
        }
        assert_eq!(story.look(13_001, Some(9_000)), Some(4_001));
    }

    #[test]
    fn a_leader_that_was_stopped_has_missed_nobody() {
        let mut story = Story::new();
        story.hear(0);
        assert_eq!(story.look(100, None), None);
        assert_eq!(story.look(3_600_000, None), None);
        story.absence.not_leading();
        assert_eq!(story.look(3_604_000, None), None);
    }
}
