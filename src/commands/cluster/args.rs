//! Declares the flags of `raftlookupd cluster`. PURE.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::address::Address;
use crate::commands::clap_text::{Request, parse};
use crate::config::{check_host_port, parse_name};
use crate::durations::parse_duration;
use crate::error::Result;

/// Shows who belongs to a cluster and how it is, and changes that
#[derive(Debug, Parser)]
#[command(
    name = "raftlookupd",
    bin_name = "raftlookupd cluster",
    no_binary_name = true,
    disable_help_subcommand = true,
    after_help = "\
Exit status: 0 done, 1 failed (for status: not healthy), 2 the flags are wrong, 3 no endpoint
answers, 4 there is no quorum, 5 there is no such member, 6 refused: it would do harm."
)]
pub struct Cluster {
    /// HTTP addresses of members; the first that answers is asked
    #[arg(long, global = true, value_name = "ADDRESS,...", value_delimiter = ',',
        value_parser = Address::parse, default_value = "127.0.0.1:4161")]
    pub(super) endpoints: Vec<Address>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// A form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(super) enum Verb {
    /// Says whether the cluster is healthy: it has a leader, and every member answers and follows
    Status,
    /// Lists the members
    Members,
    /// Lets a new member join, once it is started
    ///
    /// It joins as a learner and becomes a voter when it has caught up. Start it with its --name, an
    /// empty --data-path, and an --initial-cluster that lists it and members of the cluster.
    Add {
        /// Its --name
        #[arg(value_parser = parse_name)]
        name: String,
        /// Its --peer-broadcast-address
        #[arg(value_parser = host_port)]
        address: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Removes a member for ever, the leader included; its process ends
    Remove {
        /// Its name, or its node id
        member: String,
        /// Even if it costs the quorum, or the cluster's tolerance of failures
        #[arg(long)]
        force: bool,
    },
    /// Has another member lead
    TransferLeader {
        /// Its name or node id [default: the one that has most of the log]
        #[arg(long, value_name = "MEMBER")]
        to: Option<String>,
    },
}

/// Whether and how long a command waits for a new member.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct Wait {
    /// Wait until it is a voter, and show how far it is
    #[arg(long)]
    pub(super) wait: bool,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub(super) timeout: Duration,
}

/// Reads the words after `cluster`.
///
/// # Errors
/// [`crate::error::Error::Usage`], one line that names the flag, its value, and what would be right.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Request<Cluster>> {
    parse(words)
}

fn host_port(text: &str) -> std::result::Result<String, String> {
    check_host_port(text).map(|()| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cluster> {
        match super::read(line.split(' ').map(OsString::from))? {
            Request::Run(cluster) => Ok(cluster),
            Request::Help(text) => panic!("{text}"),
        }
    }

    #[test]
    fn flags_may_stand_anywhere() {
        for line in [
            "members --endpoints a:1,b:2 --output json",
            "--endpoints a:1,b:2 --output=json members",
        ] {
            let cluster = read(line).unwrap();
            let endpoints = cluster.endpoints.iter().map(ToString::to_string);
            assert_eq!(endpoints.collect::<Vec<_>>(), ["http://a:1", "http://b:2"]);
            assert_eq!(
                (cluster.output, cluster.verb),
                (Output::Json, Verb::Members)
            );
        }
        let plain = read("status").unwrap();
        assert_eq!(plain.endpoints[0].to_string(), "http://127.0.0.1:4161");
        assert_eq!(plain.output, Output::Table);
    }

    #[test]
    fn wrong_lines() {
        for (line, text) in [
            ("join", "unrecognized subcommand 'join'"),
            (
                "add d",
                "the following required arguments were not provided: <ADDRESS>",
            ),
            (
                "add d host",
                "invalid value 'host' for '<ADDRESS>': an address must be host:port, an IPv6 host in \
                 brackets",
            ),
            (
                "members --output yaml",
                "invalid value 'yaml' for '--output <OUTPUT>'",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.to_string(), text, "{line}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
