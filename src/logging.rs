//! The log: lines on standard error in nsqlookupd's form, or as JSON.
//!
//! A thread of its own writes them. Who reads the log may be slow, or not read at all: then lines
//! are lost, and counted, and the member goes on.

mod line;

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::upstream_log;
use line::{Fields, render};

/// The least severe lines that the log shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug = 1,
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

impl LogLevel {
    /// As nsqd numbers them: 1 (debug) to 5 (fatal).
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
            LogLevel::Fatal => "fatal",
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

/// The log of this process, once it runs.
#[derive(Debug)]
pub struct Log {
    settings: LogSettings,
    level: Mutex<LogLevel>,
    filter: reload::Handle<Targets, Registry>,
    writer: NonBlocking,
}

/// The end of the log. Dropped, it waits a moment until what was logged is written.
#[derive(Debug)]
pub struct LogEnd {
    settings: LogSettings,
    writer: NonBlocking,
    _written: WorkerGuard,
}

impl LogEnd {
    /// Writes the line that says why the process ends; shown at every level.
    pub fn fatal(&self, message: &str) {
        self.settings
            .write(&mut self.writer.clone(), "FATAL", message, &[]);
    }
}

impl Log {
    /// How many lines could not be written, since nobody reads them.
    pub fn lost(&self) -> usize {
        self.writer.error_counter().dropped_lines()
    }

    /// The least severe lines that it shows now.
    pub fn level(&self) -> LogLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows other lines from now on, and says so whatever the level: who later looks for what
    /// is missing should find out why.
    pub fn set_level(&self, level: LogLevel) {
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.filter.reload(level.filter()) {
            tracing::error!(%error, "the log level stays as it is");
            return;
        }
        let fields = [
            ("from", current.to_string().into()),
            ("to", level.to_string().into()),
        ];
        *current = level;
        let text = "the log level was changed until the next start";
        self.settings
            .write(&mut self.writer.clone(), "INFO", text, &fields);
    }
}

impl LogSettings {
    /// Starts the log of this process; a second call changes nothing.
    pub fn start(&self) -> (Log, LogEnd) {
        let (writer, written) = tracing_appender::non_blocking(std::io::stderr());
        let (filter, handle) = reload::Layer::new(self.level.filter());
        let layer = tracing_subscriber::fmt::layer()
            .event_format(EventLine(self.clone()))
            .with_writer(writer.clone())
            .log_internal_errors(false)
            .with_filter(filter);
        let started = tracing_subscriber::registry().with(layer).try_init();
        if let Err(error) = started {
            tracing::debug!(%error, "the log was started before");
        }
        let log = Log {
            settings: self.clone(),
            level: Mutex::new(self.level),
            filter: handle,
            writer: writer.clone(),
        };
        let end = LogEnd {
            settings: self.clone(),
            writer,
            _written: written,
        };
        (log, end)
    }

    /// Writes the line that says why the process ends, before its log has started.
    pub fn fatal(&self, message: &str) {
        self.write(&mut std::io::stderr(), "FATAL", message, &[]);
    }

    fn write(
        &self,
        to: &mut dyn Write,
        level: &str,
        message: &str,
        fields: &[(&str, serde_json::Value)],
    ) {
        let mut text = render(self, level, module_path!(), message, fields);
        text.push('\n');
        // There is nobody left to tell if this fails.
        let _ = to.write_all(text.as_bytes());
    }
}

impl LogLevel {
    /// Our own crates at the level asked for. The libraries report each failed call to a peer
    /// that is down, many a second, where our own lines say it once; so they are heard only
    /// when someone looks for details.
    fn filter(self) -> Targets {
        let (own, libraries) = match self {
            LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
            LogLevel::Info => (LevelFilter::INFO, LevelFilter::ERROR),
            LogLevel::Warn => (LevelFilter::WARN, LevelFilter::ERROR),
            LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
            LogLevel::Fatal => (LevelFilter::OFF, LevelFilter::OFF),
        };
        let openraft = match self {
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
        let mut fields = Fields::of(event);
        let says_it_all = metadata.target() == upstream_log::TARGET;
        if says_it_all && self.0.format == LogFormat::Text {
            fields.others.clear();
        }
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
            assert_eq!(level.to_string(), text.to_lowercase());
        }
        for text in ["", "warning", "loud", "5", " info"] {
            assert!(text.parse::<LogLevel>().is_err(), "{text}");
        }
    }

    #[test]
    fn whose_lines_are_shown() {
        let shown = |level: LogLevel, target, of: &Level| level.filter().would_enable(target, of);
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
