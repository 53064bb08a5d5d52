//! Configures the log: its level, its form, and what a line begins with.

use std::str::FromStr;

use super::level::LogLevel;

/// The form of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `[nsqlookupd] 2006/01/02 15:04:05.000000 INFO: text`, in local time.
    Text,
    /// One JSON object per line.
    Json,
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

/// The configuration of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The level: lines of this severity and above are shown.
    pub level: LogLevel,
    /// The prefix of each text line.
    pub prefix: String,
    /// The form of lines.
    pub format: LogFormat,
}

impl Default for LogSettings {
    /// nsqlookupd's defaults, also for errors before the configuration is known.
    fn default() -> LogSettings {
        LogSettings {
            level: LogLevel::Info,
            prefix: "[nsqlookupd] ".into(),
            format: LogFormat::Text,
        }
    }
}
