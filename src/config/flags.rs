//! Declares every flag of a member, once: the command line, the environment, the configuration file
//! and the usage text all follow from this list.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, CommandFactory, Parser};

use super::addresses::check_host_port;
use super::initial_cluster::{InitialCluster, parse_initial_cluster, parse_name};
use crate::durations::{parse_duration, parse_range};
use crate::logging::{LogFormat, LogLevel};

/// The heading of nsqlookupd's own flags.
pub(super) const UPSTREAM: &str = "nsqlookupd";

/// The heading of what raftlookupd adds.
pub(super) const OWN: &str = "raftlookupd";

/// The values of all flags that were given. The value names are those of Go's flag package, which
/// nsqlookupd's usage text shows; they also say which types the file may use.
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

    /// member name, unique in the cluster (default: the hostname)
    #[arg(long, value_name = "string", help_heading = OWN, value_parser = parse_name)]
    pub(super) name: Option<String>,
    /// directory for everything that must survive a restart (default "./raftlookupd-data")
    #[arg(long, value_name = "string", help_heading = OWN, value_parser = parse_folder)]
    pub(super) data_path: Option<PathBuf>,
    /// the first members as name=host:port,... with their peer ports; the same list on each of
    /// them (default: a cluster of one)
    #[arg(long, value_name = "string", help_heading = OWN, value_parser = parse_initial_cluster)]
    pub(super) initial_cluster: Option<InitialCluster>,
    /// <addr>:<port> to listen on for other members (default: 0.0.0.0:4162, and for a cluster of
    /// one none)
    #[arg(long, value_name = "string", help_heading = OWN)]
    pub(super) peer_address: Option<String>,
    /// host:port where other members reach this one (default: its entry in --initial-cluster, or
    /// the broadcast address with the port of --peer-address)
    #[arg(long, value_name = "string", help_heading = OWN, value_parser = parse_host_port)]
    pub(super) peer_broadcast_address: Option<String>,
    /// interval between leader heartbeats (default 100ms)
    #[arg(long, value_name = "duration", help_heading = OWN, value_parser = parse_duration)]
    pub(super) heartbeat_interval: Option<Duration>,
    /// time without heartbeats after which a follower stands for election, drawn at random from
    /// this range (default 300ms..600ms)
    #[arg(long, value_name = "range", help_heading = OWN, value_parser = parse_range)]
    pub(super) election_timeout: Option<Range<Duration>>,
    /// number of log entries between snapshots, after which older log is purged (default 10000)
    #[arg(long, value_name = "int", help_heading = OWN, value_parser = parse_count)]
    pub(super) snapshot_count: Option<u64>,
    /// bytes to leave free on the disk: with less, this member is read-only except for deletes, and
    /// clears that by itself (default: 67108864, or a twentieth of a smaller disk; 0 turns it off)
    #[arg(long, value_name = "int", help_heading = OWN, value_parser = parse_bytes)]
    pub(super) min_free_bytes: Option<u64>,
    /// format of log lines: text (as nsqlookupd's) or json (default text)
    #[arg(long, value_name = "value", help_heading = OWN)]
    pub(super) log_format: Option<LogFormat>,
    /// Stop when standard input ends. `raftlookupd dev` starts its members with it: a pipe ends even
    /// if its writer is killed with SIGKILL.
    #[arg(long, value_name = "bool", hide = true)]
    pub(super) stop_on_stdin_eof: Option<bool>,
}

/// The declared flags.
pub(super) fn declared() -> Vec<Arg> {
    Flags::command().get_arguments().cloned().collect()
}

/// The word for a flag's type.
pub(super) fn type_name(flag: &Arg) -> &str {
    let names = flag.get_value_names().unwrap_or_default();
    names.first().map_or("", |name| name.as_str())
}

fn parse_host_port(text: &str) -> std::result::Result<String, String> {
    check_host_port(text).map(|()| text.into())
}

fn parse_folder(text: &str) -> std::result::Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must name a directory".into());
    }
    Ok(text.into())
}

fn parse_count(text: &str) -> std::result::Result<u64, String> {
    match text.parse() {
        Ok(count @ 1..) => Ok(count),
        _ => Err("must be a whole number above 0".into()),
    }
}

fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let bytes = text.parse();
    bytes.map_err(|_| "must be a whole number of bytes".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Flags::command().debug_assert();
        for flag in declared() {
            assert!(!type_name(&flag).is_empty(), "{flag:?}");
        }
    }
}
