//! Makes a member read-only while the disk is almost full, so that it never is.
//!
//! A full disk ends the member, and disks of equal size fill together. Below the limit, registrations
//! are refused; deletes get through, and so do the leader's entries at a follower. Below a quarter of it
//! nothing is appended.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use raftlookupd_storage::disk::space::{Space, measure};
use raftlookupd_storage::event::Event;

/// Interval between measurements.
const INTERVAL: Duration = Duration::from_millis(500);

/// Without a configured limit: this much, or one part in [`SHARE`] of the disk if that is less.
const DEFAULT: u64 = 64 << 20;
const SHARE: u64 = 20;

/// The limit is left when there is one part in this many more than it demands.
const MARGIN: u64 = 8;

/// One part in this many of the limit is never touched.
const RESERVE: u64 = 4;

/// How much space there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Enough,
    /// Only what frees space is accepted.
    Low,
    /// Nothing is appended.
    Exhausted,
}

/// The space of this member's disk.
pub(crate) struct DiskSpace {
    data_path: PathBuf,
    /// `None`: see [`DEFAULT`].
    limit: Option<u64>,
    level: AtomicU8,
    free: AtomicU64,
}

impl DiskSpace {
    /// The disk of this data path, where so many bytes are to be left free.
    pub(crate) fn new(data_path: PathBuf, limit: Option<u64>) -> DiskSpace {
        let space = DiskSpace {
            data_path,
            limit,
            level: AtomicU8::new(Level::Enough as u8),
            free: AtomicU64::new(0),
        };
        space.look();
        space
    }

    /// Measures for as long as the member runs. `eased` is called when more is accepted again.
    pub(crate) async fn watch(&self, eased: impl Fn()) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let before = self.level();
            self.look();
            if self.level() < before {
                eased();
            }
        }
    }

    pub(crate) fn level(&self) -> Level {
        match self.level.load(Ordering::Acquire) {
            0 => Level::Enough,
            1 => Level::Low,
            _ => Level::Exhausted,
        }
    }

    /// Whether these events may be proposed.
    pub(crate) fn admits<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> bool {
        match self.level() {
            Level::Enough => true,
            Level::Low => events.into_iter().all(frees_space),
            Level::Exhausted => false,
        }
    }

    /// Bytes that were free when it was last measured.
    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    fn look(&self) {
        let space = match measure(&self.data_path) {
            Ok(space) => space,
            Err(error) => {
                tracing::debug!(%error, "free space unknown");
                return;
            }
        };
        self.free.store(space.free, Ordering::Relaxed);
        let limit = limit(self.limit, space);
        let before = self.level();
        let level = next(before, space.free, limit);
        if level == before {
            return;
        }
        self.level.store(level as u8, Ordering::Release);
        let free = space.free;
        match level {
            Level::Enough => tracing::info!(free, "disk space regained: writes are accepted again"),
            Level::Low => tracing::warn!(
                free,
                limit,
                "disk almost full: this member is read-only, except for deletes, until there is space"
            ),
            Level::Exhausted => tracing::error!(
                free,
                limit,
                "disk full: this member accepts nothing, not even from the leader, until there is space"
            ),
        }
    }
}

fn limit(configured: Option<u64>, space: Space) -> u64 {
    configured.unwrap_or_else(|| DEFAULT.min(space.total / SHARE))
}

fn next(before: Level, free: u64, limit: u64) -> Level {
    let margin = |level: u64| match before {
        Level::Enough => level,
        _ => level.saturating_add(level / MARGIN),
    };
    if free < limit / RESERVE {
        Level::Exhausted
    } else if free < margin(limit) {
        Level::Low
    } else {
        Level::Enough
    }
}

/// Whether an event takes more away than it adds.
fn frees_space(event: &Event) -> bool {
    matches!(
        event,
        Event::DeleteTopic { .. }
            | Event::DeleteChannel { .. }
            | Event::Release { .. }
            | Event::Detach { .. }
            | Event::Expire { .. }
            | Event::ExpireName { .. }
            | Event::Away { .. }
            | Event::RemoveMember { .. }
            | Event::Sweep
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_follows_the_free_space_with_a_margin() {
        let mut level = Level::Enough;
        for (free, expected) in [
            (1000, Level::Enough),
            (800, Level::Enough),
            (799, Level::Low),
            (850, Level::Low),
            (200, Level::Low),
            (199, Level::Exhausted),
            (210, Level::Low),
            (900, Level::Enough),
            (0, Level::Exhausted),
            (5000, Level::Enough),
        ] {
            level = next(level, free, 800);
            assert_eq!(level, expected, "{free} bytes");
        }
        assert_eq!(next(Level::Enough, 0, 0), Level::Enough);
    }

    #[test]
    fn a_small_disk_has_a_small_limit() {
        let space = |total| Space { free: 0, total };
        assert_eq!(limit(None, space(1 << 40)), DEFAULT);
        assert_eq!(limit(None, space(40 << 20)), 2 << 20);
        assert_eq!(limit(Some(7), space(1 << 40)), 7);
    }

    #[test]
    fn deletes_get_through_while_space_is_low() {
        let folder = tempfile::tempdir().unwrap();
        let space = DiskSpace::new(folder.path().to_path_buf(), Some(0));
        let topic = || "orders".to_string();
        let create = Event::CreateTopic { topic: topic() };
        let delete = Event::DeleteTopic { topic: topic() };
        for (level, expected) in [
            (Level::Enough, (true, true)),
            (Level::Low, (false, true)),
            (Level::Exhausted, (false, false)),
        ] {
            space.level.store(level as u8, Ordering::Release);
            assert_eq!((space.admits([&create]), space.admits([&delete])), expected);
        }
    }
}
