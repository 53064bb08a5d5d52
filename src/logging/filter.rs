//! Selects the lines that a level shows: our own, and those of libraries.

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::level::LogLevel;

/// The lines that a level shows. Our own crates log at the level and above. Libraries log every failed
/// call to a peer that is down, many per second, which our own lines report once; so they are shown
/// only at debug.
pub(super) fn targets(level: LogLevel) -> Targets {
    let (own, libraries) = match level {
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::ERROR),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Fatal => (LevelFilter::OFF, LevelFilter::OFF),
    };
    let openraft = match level {
        LogLevel::Debug => LevelFilter::WARN,
        _ => LevelFilter::OFF,
    };
    // The names of our other crates also begin with "raftlookupd".
    Targets::new()
        .with_default(libraries)
        .with_target("openraft", openraft)
        .with_target("raftlookupd", own)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn whose_lines_are_shown() {
        let shown = |level: LogLevel, target, of: &Level| targets(level).would_enable(target, of);
        for (level, target, of, expected) in [
            (LogLevel::Info, "raftlookupd::server", Level::INFO, true),
            (
                LogLevel::Info,
                "raftlookupd_raft::registry",
                Level::INFO,
                true,
            ),
            (LogLevel::Info, "raftlookupd_storage", Level::DEBUG, false),
            (LogLevel::Debug, "raftlookupd", Level::DEBUG, true),
            (LogLevel::Fatal, "raftlookupd", Level::ERROR, false),
            (LogLevel::Info, "openraft::engine", Level::ERROR, false),
            (LogLevel::Debug, "openraft::engine", Level::WARN, true),
            (LogLevel::Info, "hyper::client", Level::WARN, false),
            (LogLevel::Info, "sled", Level::ERROR, true),
            (LogLevel::Fatal, "sled", Level::ERROR, false),
        ] {
            assert_eq!(
                shown(level, target, &of),
                expected,
                "{level:?} {target} {of}"
            );
        }
    }
}
