//! Holds the configuration of one member: every flag with its default filled in.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::addresses::join_host_port;
use super::flags::Flags;
use super::initial_cluster::{InitialCluster, parse_name};
use crate::durations::format_duration;
use crate::error::{Error, Result};
use crate::logging::{LogFormat, LogLevel, LogSettings};

/// The configuration of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where nsqds connect.
    pub tcp_address: String,
    /// Where HTTP clients connect.
    pub http_address: String,
    /// Announced to nsqds in the answer to IDENTIFY; may be empty, as for nsqlookupd.
    pub broadcast_address: String,
    /// A producer without PING for longer is not listed.
    pub inactive_producer_timeout: Duration,
    /// How long a tombstone hides a producer.
    pub tombstone_lifetime: Duration,
    /// Level and form of the log.
    pub log: LogSettings,
    /// The hostname.
    pub hostname: String,
    /// The member's name, unique in the cluster.
    pub name: String,
    /// The directory for everything that survives a restart.
    pub data_path: PathBuf,
    /// Where other members connect.
    pub peer_address: Option<String>,
    /// How other members reach this one, if that is configured.
    pub peer_broadcast_address: Option<String>,
    /// The first members, this one included; `None` for a cluster of one.
    pub initial_cluster: Option<InitialCluster>,
    /// The interval between leader heartbeats.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for heartbeats before it stands for election.
    pub election_timeout: Range<Duration>,
    /// The number of log entries between snapshots.
    pub snapshot_count: u64,
    /// With fewer bytes free on its disk the member is read-only; `None` for the default.
    pub min_free_bytes: Option<u64>,
    /// Whether the end of standard input ends the member.
    pub stop_on_stdin_eof: bool,
}

impl Config {
    /// Fills in the defaults, and checks that the settings fit together.
    pub(super) fn resolve(flags: Flags, hostname: &str) -> Result<Config> {
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
            peer_address: flags.peer_address,
            peer_broadcast_address: flags.peer_broadcast_address,
            initial_cluster: flags.initial_cluster,
            heartbeat_interval: flags
                .heartbeat_interval
                .unwrap_or(Duration::from_millis(100)),
            election_timeout: flags
                .election_timeout
                .unwrap_or(Duration::from_millis(300)..Duration::from_millis(600)),
            snapshot_count: flags.snapshot_count.unwrap_or(10_000),
            min_free_bytes: flags.min_free_bytes,
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
                "must be at least 1ms, and shorter than the shortest election-timeout, {}",
                format_duration(self.election_timeout.start)
            );
            return wrong("heartbeat-interval", format_duration(heartbeat), right);
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

    /// How other members reach this one if it listens for them on this port.
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
