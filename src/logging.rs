//! The log: lines on standard error in nsqlookupd's form, or as JSON.

mod line;

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use line::{Fields, render};

/// The least severe lines that the log shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What an operator should look at.
    Warn,
    /// What went wrong.
    Error,
    /// Only what ends the process.
    Fatal,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `[nsqlookupd] 2006/01/02 15:04:05.000000 INFO: text`, in local time.
    Text,
    /// One JSON object per line.
    Json,
}

/// What the log shows, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe lines that it shows.
    pub level: LogLevel,
    /// What each text line begins with.
    pub prefix: String,
    /// How lines are written.
    pub format: LogFormat,
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<LogLevel, String> {
        Ok(match text.to_lowercase().as_str() {
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warn" => LogLevel::Warn,
            "error" => LogLevel::Error,
            "fatal" => LogLevel::Fatal,
            _ => {
                return Err(format!(
                    "invalid log level '{text}' (debug, info, warn, error, fatal)"
                ));
            }
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be text or json".into()),
        }
    }
}

impl Default for LogSettings {
    /// nsqlookupd's, for what goes wrong before the configuration is known.
    fn default() -> LogSettings {
        LogSettings {
            level: LogLevel::Info,
            prefix: "[nsqlookupd] ".into(),
            format: LogFormat::Text,
        }
    }
}

impl LogSettings {
    /// Starts the log of this process; a second call changes nothing.
    pub fn start(&self) {
        let layer = tracing_subscriber::fmt::layer()
            .event_format(EventLine(self.clone()))
            // Written in one piece per line. An error, as when the reader of a pipe is gone, is
            // ignored: a log that nobody reads must not stop the member.
            .with_writer(std::io::stderr)
            .log_internal_errors(false)
            .with_filter(self.filter());
        let started = tracing_subscriber::registry().with(layer).try_init();
        if let Err(error) = started {
            tracing::debug!(%error, "the log was started before");
        }
    }

    /// Writes the line that says why the process ends; shown at every level.
    pub fn fatal(&self, message: &str) {
        let mut text = render(self, "FATAL", module_path!(), message, &[]);
        text.push('\n');
        // There is nobody left to tell if this fails.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Our own crates at the level asked for. The libraries report each failed call to a peer
    /// that is down, many a second, where our own lines say it once; so they are heard only
    /// when someone looks for details.
    fn filter(&self) -> Targets {
        let (own, libraries) = match self.level {
            LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
            LogLevel::Info => (LevelFilter::INFO, LevelFilter::ERROR),
            LogLevel::Warn => (LevelFilter::WARN, LevelFilter::ERROR),
            LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
            LogLevel::Fatal => (LevelFilter::OFF, LevelFilter::OFF),
        };
        let openraft = match self.level {
            LogLevel::Debug => LevelFilter::WARN,
            _ => LevelFilter::OFF,
        };
        // "raftlookupd" is also how the names of our other crates begin.
        Targets::new()
            .with_default(libraries)
            .with_target("openraft", openraft)
            .with_target("raftlookupd", own)
    }
}

struct EventLine(LogSettings);

impl<S, N> FormatEvent<S, N> for EventLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        let fields = Fields::of(event);
        let text = render(
            &self.0,
            level,
            metadata.target(),
            &fields.message,
            &fields.others,
        );
        writeln!(writer, "{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_in_any_case() {
        for (text, level) in [
            ("debug", LogLevel::Debug),
            ("WARN", LogLevel::Warn),
            ("Error", LogLevel::Error),
            ("fatal", LogLevel::Fatal),
        ] {
            assert_eq!(text.parse(), Ok(level));
        }
        for text in ["", "warning", "loud", "5", " info"] {
            assert!(text.parse::<LogLevel>().is_err(), "{text}");
        }
    }

    #[test]
    fn whose_lines_are_shown() {
        let shown = |level, target, of: &Level| {
            let settings = LogSettings {
                level,
                ..LogSettings::default()
            };
            settings.filter().would_enable(target, of)
        };
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
