//! Names the levels of the log, as nsqlookupd does.

use std::fmt;
use std::str::FromStr;

/// A level: the log shows lines of this severity and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Details.
    Debug = 1,
    /// Normal events.
    Info,
    /// What an operator should look at.
    Warn,
    /// Errors.
    Error,
    /// Only what ends the process.
    Fatal,
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
    /// nsqd's number for the level: 1 (debug) to 5 (fatal).
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
}
