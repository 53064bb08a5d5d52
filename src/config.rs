//! What a member is told: flags, environment, configuration file, defaults.
//!
//! Each source becomes a list of settings in one form, `--flag=value`. Put one behind the other
//! (file, environment, command line) and read with "the last one counts", they are the
//! precedence.

mod addresses;
mod durations;
mod environment;
mod file;
mod flags;
mod go_args;
mod initial_cluster;
mod usage;

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use addresses::{check_host_port, join_host_port, split_host_port};
pub use initial_cluster::InitialCluster;
pub use usage::usage;

use crate::error::{Error, Result};
use crate::logging::{LogFormat, LogLevel, LogSettings};
use flags::{Flags, Source};
use go_args::CommandLine;
use initial_cluster::parse_name;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Print the usage text.
    Help,
    /// Print the version.
    Version,
    /// Run a member.
    Member {
        /// How.
        config: Box<Config>,
        /// What the log should say about the configuration.
        warnings: Vec<String>,
    },
}

/// Everything that a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where nsqds connect.
    pub tcp_address: String,
    /// Where everybody else asks.
    pub http_address: String,
    /// What IDENTIFY answers; may be empty, as at nsqlookupd.
    pub broadcast_address: String,
    /// A producer that was silent for longer is not listed.
    pub inactive_producer_timeout: Duration,
    /// How long a tombstone hides a producer.
    pub tombstone_lifetime: Duration,
    /// What the log shows, and how.
    pub log: LogSettings,
    /// The host's name.
    pub hostname: String,
    /// The member's name, unique in the cluster.
    pub name: String,
    /// Everything that survives a restart.
    pub data_path: PathBuf,
    /// Where the other members connect.
    pub peer_address: String,
    /// How the other members reach this one, if that is configured.
    pub peer_broadcast_address: Option<String>,
    /// The first members, this one included; `None` for a cluster of one.
    pub initial_cluster: Option<InitialCluster>,
    /// How often the leader shows that it is there.
    pub heartbeat_interval: Duration,
    /// How long the others wait for the leader.
    pub election_timeout: Range<Duration>,
    /// A snapshot is taken every so many log entries.
    pub snapshot_count: u64,
    /// Whether the end of standard input ends the member.
    pub stop_on_stdin_eof: bool,
}

/// Reads the words after the program's name, the environment, and the file that they name.
///
/// # Errors
/// One line that names the flag, variable or key, its value, and what would be right.
pub fn read(
    words: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
    hostname: &str,
) -> Result<Invocation> {
    let from_flags = match go_args::read(words)? {
        CommandLine::Help => return Ok(Invocation::Help),
        CommandLine::Settings(settings) => settings,
    };
    let flags = Flags::parse_canonical(&from_flags, Source::CommandLine)?;
    if flags.version == Some(true) {
        return Ok(Invocation::Version);
    }
    let from_environment = environment::read(variable)?;
    let environment = Flags::parse_canonical(&from_environment, Source::Environment)?;
    let file = match flags.config.or(environment.config).as_deref() {
        None | Some("") => file::File::default(),
        Some(path) => file::load(path.as_ref())?,
    };
    Flags::parse_canonical(&file.settings, Source::File)?;

    let settings = [file.settings, from_environment, from_flags].concat();
    let flags = Flags::parse_canonical(&settings, Source::CommandLine)?;
    Ok(Invocation::Member {
        config: Box::new(Config::resolve(flags, hostname)?),
        warnings: file.warnings,
    })
}

impl Config {
    /// Fills in the defaults, and checks that everything fits together.
    fn resolve(flags: Flags, hostname: &str) -> Result<Config> {
        let or = |given: Option<String>, default: &str| given.unwrap_or_else(|| default.into());
        let config = Config {
            tcp_address: or(flags.tcp_address, "0.0.0.0:4160"),
            http_address: or(flags.http_address, "0.0.0.0:4161"),
            broadcast_address: or(flags.broadcast_address, hostname),
            inactive_producer_timeout: flags
                .inactive_producer_timeout
                .unwrap_or(Duration::from_secs(300)),
            tombstone_lifetime: flags.tombstone_lifetime.unwrap_or(Duration::from_secs(45)),
            log: LogSettings {
                level: flags.log_level.unwrap_or(LogLevel::Info),
                prefix: or(flags.log_prefix, "[nsqlookupd] "),
                format: flags.log_format.unwrap_or(LogFormat::Text),
            },
            hostname: hostname.into(),
            name: or(flags.name, hostname),
            data_path: flags
                .data_path
                .unwrap_or_else(|| "./raftlookupd-data".into()),
            peer_address: or(flags.peer_address, "0.0.0.0:4162"),
            peer_broadcast_address: flags.peer_broadcast_address,
            initial_cluster: flags.initial_cluster,
            heartbeat_interval: flags
                .heartbeat_interval
                .unwrap_or(Duration::from_millis(100)),
            election_timeout: flags
                .election_timeout
                .unwrap_or(Duration::from_millis(300)..Duration::from_millis(600)),
            snapshot_count: flags.snapshot_count.unwrap_or(10_000),
            stop_on_stdin_eof: flags.stop_on_stdin_eof.unwrap_or(false),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let wrong = |flag, value: String, reason: String| {
            Err(Error::Setting {
                flag,
                value,
                reason,
            })
        };
        if let Err(reason) = parse_name(&self.name) {
            return wrong("name", self.name.clone(), reason);
        }
        let heartbeat = self.heartbeat_interval;
        if heartbeat < Duration::from_millis(1) || heartbeat >= self.election_timeout.start {
            let right = format!(
                "must be at least 1ms, and shorter than the shortest election-timeout, {:?}",
                self.election_timeout.start
            );
            return wrong("heartbeat-interval", format!("{heartbeat:?}"), right);
        }
        if let Some(members) = &self.initial_cluster
            && !members.contains_key(&self.name)
        {
            let names: Vec<&str> = members.keys().map(String::as_str).collect();
            let right = format!(
                "must be a name that initial-cluster lists: {}",
                names.join(", ")
            );
            return wrong("name", self.name.clone(), right);
        }
        Ok(())
    }

    /// How the other members reach this one, if it listens for them on this port.
    pub fn peer_broadcast_address(&self, port: u16) -> String {
        let listed = || self.initial_cluster.as_ref()?.get(&self.name).cloned();
        let given = self.peer_broadcast_address.clone().or_else(listed);
        given.unwrap_or_else(|| {
            let host = match self.broadcast_address.as_str() {
                "" => &self.hostname,
                host => host,
            };
            join_host_port(host, port)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_config(words: &[&str], variables: &[(&str, &str)]) -> Result<Config> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        match read(words.iter().map(OsString::from), variable, "here")? {
            Invocation::Member { config, .. } => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    fn config(words: &[&str]) -> Config {
        try_config(words, &[]).unwrap()
    }

    fn said(words: &[&str], variables: &[(&str, &str)]) -> String {
        try_config(words, variables).unwrap_err().to_string()
    }

    #[test]
    fn defaults() {
        let config = config(&[]);
        assert_eq!(config.tcp_address, "0.0.0.0:4160");
        assert_eq!(config.broadcast_address, "here");
        assert_eq!(config.name, "here");
        assert_eq!(config.log.prefix, "[nsqlookupd] ");
        assert_eq!(config.peer_broadcast_address(4162), "here:4162");
        assert!(config.initial_cluster.is_none());
    }

    #[test]
    fn flags_beat_the_environment_and_that_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nsqlookupd.cfg");
        let text = "name = 'file'\nlog_prefix = 'file'\nhttp_address = 'file:1'\nodd = 1\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let variables = [
            ("RAFTLOOKUPD_CONFIG", file),
            ("RAFTLOOKUPD_NAME", "env"),
            ("RAFTLOOKUPD_LOG_PREFIX", "env"),
            ("RAFTLOOKUPD_TCP_ADDRESS", ""),
        ];
        let config = try_config(&["-name", "flag"], &variables).unwrap();
        assert_eq!(config.name, "flag");
        assert_eq!(config.log.prefix, "env");
        assert_eq!(config.http_address, "file:1");
        assert_eq!(config.tcp_address, "0.0.0.0:4160");

        let words = [format!("--config={file}")].map(OsString::from);
        let Invocation::Member { warnings, .. } = read(words, |_| None, "here").unwrap() else {
            panic!("no member");
        };
        assert_eq!(warnings, ["the unknown key \"odd\" is ignored"]);
    }

    #[test]
    fn a_bad_value_counts_even_if_another_source_wins() {
        let variables = [("RAFTLOOKUPD_TOMBSTONE_LIFETIME", "soon")];
        let said = said(&["--tombstone-lifetime=1s"], &variables);
        assert!(
            said.starts_with("invalid value \"soon\" for RAFTLOOKUPD_TOMBSTONE_LIFETIME: "),
            "{said}"
        );
    }

    #[test]
    fn version_and_help_come_before_the_file() {
        let read = |words: &[&str]| read(words.iter().map(OsString::from), |_| None, "here");
        let version = read(&["--version", "--config=/nonexistent"]).unwrap();
        assert_eq!(version, Invocation::Version);
        assert_eq!(read(&["-h"]).unwrap(), Invocation::Help);
        assert!(read(&["--version", "--log-level=loud"]).is_err());
        let member = read(&["--version=false"]).unwrap();
        assert!(matches!(member, Invocation::Member { .. }));
    }

    #[test]
    fn what_does_not_fit_together() {
        for (words, text) in [
            (
                &["--initial-cluster=a=h:1,b=h:2"][..],
                "invalid value \"here\" for name: must be a name that initial-cluster lists: a, b",
            ),
            (
                &["--heartbeat-interval=300ms"],
                "invalid value \"300ms\" for heartbeat-interval: must be at least 1ms, \
                 and shorter than the shortest election-timeout, 300ms",
            ),
            (
                &["--heartbeat-interval=1us"],
                "invalid value \"1\u{b5}s\" for heartbeat-interval: must be at least 1ms, \
                 and shorter than the shortest election-timeout, 300ms",
            ),
        ] {
            assert_eq!(said(words, &[]), text);
        }
    }

    #[test]
    fn where_peers_find_this_member() {
        let cluster = "--initial-cluster=a=h1:1,b=h2:2";
        for (words, address) in [
            (&["--broadcast-address="][..], "here:9"),
            (&["--broadcast-address=::1"], "[::1]:9"),
            (&[cluster, "--name=b"], "h2:2"),
            (
                &[cluster, "--name=b", "--peer-broadcast-address=h3:3"],
                "h3:3",
            ),
        ] {
            assert_eq!(
                config(words).peer_broadcast_address(9),
                address,
                "{words:?}"
            );
        }
    }
}
