//! Reads a member's configuration: flags, environment, configuration file, defaults.
//!
//! Each source becomes a list of settings in one form, `--flag=value`. Concatenated (file,
//! environment, command line) and parsed so that the last one counts, they have their precedence.
//!
//! - `flags` declares what can be configured; `settings` fills in the defaults.
//! - The sources are `go_args` (the command line), `environment` and `file`; `canonical` parses what
//!   they contain, and `usage` explains it.

mod addresses;
mod canonical;
mod environment;
mod file;
mod flags;
mod go_args;
mod initial_cluster;
mod settings;
mod usage;

use std::ffi::OsString;

pub(crate) use addresses::{check_host_port, split_host_port};
pub use initial_cluster::InitialCluster;
pub(crate) use initial_cluster::parse_name;
pub use settings::Config;
pub use usage::usage;

use crate::error::Result;
use canonical::Source;
use flags::Flags;
use go_args::CommandLine;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Print the usage text.
    Help,
    /// Print the version.
    Version,
    /// Run a member.
    Member {
        /// Its configuration.
        config: Box<Config>,
        /// Lines for the log about the configuration.
        warnings: Vec<String>,
    },
}

/// Reads the words after the program's name, the environment, and the file that either names.
///
/// # Errors
/// One line that names the flag, variable or key, its value, and what would be right.
pub fn read(
    words: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
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
    let environment::Environment {
        settings: from_environment,
        warnings,
    } = environment::read(variables)?;
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
        warnings: [warnings, file.warnings].concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_config(words: &[&str], variables: &[(&str, &str)]) -> Result<Config> {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        match read(words.iter().map(OsString::from), variables, "here")? {
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
        let Invocation::Member { warnings, .. } = read(words, [], "here").unwrap() else {
            panic!("no member");
        };
        assert_eq!(warnings, ["ignoring unknown config key \"odd\""]);
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
        let read = |words: &[&str]| read(words.iter().map(OsString::from), [], "here");
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
