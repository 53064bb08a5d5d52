//! Writes the log: lines on standard error in nsqlookupd's form, or as JSON.
//!
//! A thread of its own writes them. If standard error is not read, lines are dropped and counted,
//! and the member goes on.
//!
//! - Configured by `level` and `settings`; `filter` chooses what a level shows.
//! - An event of `tracing` becomes `fields`, these a `line`; `event_line` puts both together.

mod event_line;
mod fields;
mod filter;
mod level;
mod line;
mod settings;

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use event_line::EventLine;
use filter::targets;
use line::render;

pub use level::LogLevel;
pub use settings::{LogFormat, LogSettings};

/// The running log of this process.
#[derive(Debug)]
pub struct Log {
    settings: LogSettings,
    level: Mutex<LogLevel>,
    filter: reload::Handle<Targets, Registry>,
    writer: NonBlocking,
}

/// The end of the log. Dropping it waits briefly until all lines are written.
#[derive(Debug)]
pub struct LogEnd {
    settings: LogSettings,
    writer: NonBlocking,
    _written: WorkerGuard,
}

impl LogEnd {
    /// Writes the line that says why the process ends, at every level.
    pub fn fatal(&self, message: &str) {
        self.settings
            .write(&mut self.writer.clone(), "FATAL", message, &[]);
    }
}

impl Log {
    /// The number of lines dropped because they were not read fast enough.
    pub fn lost(&self) -> usize {
        self.writer.error_counter().dropped_lines()
    }

    /// The current level.
    pub fn level(&self) -> LogLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the level, and logs that at every level, so that the log explains its gaps.
    pub fn set_level(&self, level: LogLevel) {
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::error!(%error, "cannot change the log level");
            return;
        }
        let fields = [
            ("from", current.to_string().into()),
            ("to", level.to_string().into()),
        ];
        *current = level;
        let text = "log level changed until the next start";
        self.settings
            .write(&mut self.writer.clone(), "INFO", text, &fields);
    }
}

impl LogSettings {
    /// Starts the log of this process. A second call has no effect.
    pub fn start(&self) -> (Log, LogEnd) {
        let (writer, written) = tracing_appender::non_blocking(std::io::stderr());
        let (filter, handle) = reload::Layer::new(targets(self.level));
        let layer = tracing_subscriber::fmt::layer()
            .event_format(EventLine(self.clone()))
            .with_writer(writer.clone())
            .log_internal_errors(false)
            .with_filter(filter);
        let started = tracing_subscriber::registry().with(layer).try_init();
        if let Err(error) = started {
            tracing::debug!(%error, "the log has been started before");
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
        // There is nowhere to report a failure.
        let _ = to.write_all(text.as_bytes());
    }
}
