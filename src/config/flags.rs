//! Every flag of a member, declared once: the command line, the environment, the configuration
//! file and the usage text all follow from this list.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory, Parser};

use super::addresses::check_host_port;
use super::durations::{parse_duration, parse_range};
use super::initial_cluster::{InitialCluster, parse_initial_cluster, parse_name};
use crate::error::{Error, Result};
use crate::logging::{LogFormat, LogLevel};

/// The heading of nsqlookupd's own flags.
pub(super) const UPSTREAM: &str = "nsqlookupd";

/// The heading of what raftlookupd adds.
pub(super) const OWN: &str = "raftlookupd";

/// The values of all flags that were given. The value names are those of Go's flag package,
/// since nsqlookupd's usage text shows them; they also say which types the file may use.
#[derive(Debug, Default, Parser)]
#[command(
    name = "raftlookupd",
    no_binary_name = true,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct Flags {
    /// address of this lookupd node, (default to the OS hostname)
    #[arg(long, value_name = "string", help_heading = UPSTREAM)]
    pub(super) broadcast_address: Option<String>,
    /// path to config file
    #[arg(long, value_name = "string", help_heading = UPSTREAM)]
    pub(super) config: Option<String>,
    /// <addr>:<port> to listen on for HTTP clients (default "0.0.0.0:4161")
    #[arg(long, value_name = "string", help_heading = UPSTREAM)]
    pub(super) http_address: Option<String>,
    /// duration of time a producer will remain in the active list since its last ping (default 5m0s)
    #[arg(long, value_name = "duration", help_heading = UPSTREAM, value_parser = parse_duration)]
    pub(super) inactive_producer_timeout: Option<Duration>,
    /// set log verbosity: debug, info, warn, error, or fatal (default INFO)
    #[arg(long, value_name = "value", help_heading = UPSTREAM)]
    pub(super) log_level: Option<LogLevel>,
    /// log message prefix (default "[nsqlookupd] ")
    #[arg(long, value_name = "string", help_heading = UPSTREAM)]
    pub(super) log_prefix: Option<String>,
    /// <addr>:<port> to listen on for TCP clients (default "0.0.0.0:4160")
    #[arg(long, value_name = "string", help_heading = UPSTREAM)]
    pub(super) tcp_address: Option<String>,
    /// duration of time a producer will remain tombstoned if registration remains (default 45s)
    #[arg(long, value_name = "duration", help_heading = UPSTREAM, value_parser = parse_duration)]
    pub(super) tombstone_lifetime: Option<Duration>,
    /// [deprecated] has no effect, use --log-level
    #[arg(long, value_name = "bool", help_heading = UPSTREAM)]
    pub(super) verbose: Option<bool>,
    /// print version string
    #[arg(long, value_name = "bool", help_heading = UPSTREAM)]
    pub(super) version: Option<bool>,

    /// this member's name, unique in its cluster (default: the host's name)
    #[arg(long, value_name = "string", help_heading = OWN, value_parser = parse_name)]
    pub(super) name: Option<String>,
    /// folder for everything that must survive a restart (default "./raftlookupd-data")
    #[arg(long, value_name = "string", help_heading = OWN, value_parser = parse_folder)]
    pub(super) data_path: Option<PathBuf>,
    /// the first members, name=host:port,... with their peer ports; the same list at each of
    /// them (default: a cluster of one)
    #[arg(long, value_name = "string", help_heading = OWN, value_parser = parse_initial_cluster)]
    pub(super) initial_cluster: Option<InitialCluster>,
    /// <addr>:<port> to listen on for the other members (default "0.0.0.0:4162")
    #[arg(long, value_name = "string", help_heading = OWN)]
    pub(super) peer_address: Option<String>,
    /// host:port where the other members reach this one (default: as in --initial-cluster, or
    /// the broadcast address with the port of --peer-address)
    #[arg(long, value_name = "string", help_heading = OWN, value_parser = parse_host_port)]
    pub(super) peer_broadcast_address: Option<String>,
    /// how often the leader shows that it is there (default 100ms)
    #[arg(long, value_name = "duration", help_heading = OWN, value_parser = parse_duration)]
    pub(super) heartbeat_interval: Option<Duration>,
    /// how long the others wait for the leader before they elect a new one: a random time in
    /// this range (default 300ms..600ms)
    #[arg(long, value_name = "range", help_heading = OWN, value_parser = parse_range)]
    pub(super) election_timeout: Option<Range<Duration>>,
    /// after how many log entries a snapshot is taken and the log purged (default 10000)
    #[arg(long, value_name = "int", help_heading = OWN, value_parser = parse_count)]
    pub(super) snapshot_count: Option<u64>,
    /// log lines as text, as nsqlookupd's, or json (default text)
    #[arg(long, value_name = "value", help_heading = OWN)]
    pub(super) log_format: Option<LogFormat>,
    /// Stop when standard input ends: `raftlookupd dev` starts its members so, since the end of
    /// a pipe is the one thing that even kill -9 of its writer cannot hold back.
    #[arg(long, value_name = "bool", hide = true)]
    pub(super) stop_on_stdin_eof: Option<bool>,
}

/// Where a value was written, for the error about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    CommandLine,
    Environment,
    File,
}

/// `--name=value`, the one form in which clap gets to see a setting of any source.
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

/// The declared flags.
pub(super) fn declared() -> Vec<Arg> {
    Flags::command().get_arguments().cloned().collect()
}

/// The word that stands for a flag's type.
pub(super) fn type_name(flag: &Arg) -> &str {
    let names = flag.get_value_names().unwrap_or_default();
    names.first().map_or("", |name| name.as_str())
}

impl Flags {
    /// Parses settings in the canonical form; of repeated ones the last counts.
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
        // The settings are canonical and their names known, so this is not expected.
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

fn parse_host_port(text: &str) -> std::result::Result<String, String> {
    check_host_port(text).map(|()| text.into())
}

fn parse_folder(text: &str) -> std::result::Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must name a folder".into());
    }
    Ok(text.into())
}

fn parse_count(text: &str) -> std::result::Result<u64, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err("must be a whole number above 0".into()),
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
    fn the_declaration_is_sound() {
        Flags::command().debug_assert();
        for flag in declared() {
            assert!(!type_name(&flag).is_empty(), "{flag:?}");
        }
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
                "invalid value \"\" for flag -data-path: must name a folder",
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
