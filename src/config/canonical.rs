//! Parses settings of every source in one form, `--flag=value`, and explains what is wrong with one.

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::flags::Flags;
use crate::error::{Error, Result};

/// Where a value comes from, for the error about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    CommandLine,
    Environment,
    File,
}

/// `--name=value`, the form in which clap parses settings of every source.
pub(super) fn canonical(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

/// The name of a flag as an environment variable.
pub(super) fn environment_name(name: &str) -> String {
    format!("RAFTLOOKUPD_{}", key(name).to_uppercase())
}

/// The name of a flag as a key of the configuration file.
pub(super) fn key(name: &str) -> String {
    name.replace('-', "_")
}

impl Flags {
    /// Parses settings in the canonical form. The last of repeated ones counts.
    pub(super) fn parse_canonical(settings: &[String], source: Source) -> Result<Flags> {
        Flags::try_parse_from(settings).map_err(|error| explain(&error, source))
    }
}

fn explain(error: &clap::Error, source: Source) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    if !matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    ) {
        // Not expected: the settings are canonical and their names known.
        return Error::Usage(error.to_string().trim_end().replace('\n', " "));
    }
    // "--tombstone-lifetime <duration>"
    let flag = context(ContextKind::InvalidArg).trim_start_matches('-');
    let flag = flag.split(' ').next().unwrap_or(flag);
    let value = context(ContextKind::InvalidValue).to_string();
    let reason =
        std::error::Error::source(error).map_or("parse error".into(), |reason| reason.to_string());
    match source {
        Source::CommandLine => Error::Usage(format!(
            "invalid value {value:?} for flag -{flag}: {reason}"
        )),
        Source::Environment => {
            let name = environment_name(flag);
            Error::Usage(format!("invalid value {value:?} for {name}: {reason}"))
        }
        Source::File if flag == "log-level" => Error::ConfigLogLevel { value, reason },
        Source::File => Error::ConfigValue {
            key: key(flag),
            value,
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(setting: &str, source: Source) -> String {
        let settings = [setting.to_string()];
        Flags::parse_canonical(&settings, source)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn bad_values_are_named() {
        use Source::{CommandLine, Environment, File};
        for (setting, source, text) in [
            (
                "--tombstone-lifetime=5 s",
                CommandLine,
                "invalid value \"5 s\" for flag -tombstone-lifetime: parse error",
            ),
            (
                "--inactive-producer-timeout=",
                CommandLine,
                "invalid value \"\" for flag -inactive-producer-timeout: parse error",
            ),
            (
                "--log-level=loud",
                CommandLine,
                "invalid value \"loud\" for flag -log-level: \
                 invalid log level 'loud' (debug, info, warn, error, fatal)",
            ),
            (
                "--log-format=xml",
                CommandLine,
                "invalid value \"xml\" for flag -log-format: must be text or json",
            ),
            (
                "--name=a,b",
                Environment,
                "invalid value \"a,b\" for RAFTLOOKUPD_NAME: a name must not be empty",
            ),
            (
                "--snapshot-count=0",
                CommandLine,
                "invalid value \"0\" for flag -snapshot-count: must be a whole number above 0",
            ),
            (
                "--peer-broadcast-address=host",
                CommandLine,
                "an address must be host:port",
            ),
            (
                "--data-path=",
                CommandLine,
                "invalid value \"\" for flag -data-path: must name a directory",
            ),
            ("--log-level=5", File, "failed parsing log_level 5 - "),
            (
                "--tombstone-lifetime=soon",
                File,
                "failed to coerce value for tombstone_lifetime (soon) - parse error",
            ),
        ] {
            let said = said(setting, source);
            assert!(said.contains(text), "{said}");
        }
    }

    #[test]
    fn the_last_value_counts() {
        let settings = ["--name=a", "--name=b", "--log-prefix=--x=y"].map(String::from);
        let flags = Flags::parse_canonical(&settings, Source::CommandLine).unwrap();
        assert_eq!(flags.name.as_deref(), Some("b"));
        assert_eq!(flags.log_prefix.as_deref(), Some("--x=y"));
    }
}
