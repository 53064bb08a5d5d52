//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::size::Size;
use crate::stage::Options;
use crate::targets::spec::{Program, Spec};

/// Measures raftlookupd, and nsqlookupd and etcd by the same work.
///
/// Several targets are measured in turn, and raftlookupd's figures compared with the others'.
#[derive(Debug, Parser)]
#[command(name = "raftlookupd-bench")]
pub(crate) struct Args {
    /// A target to start: raftlookupd=PATH, nsqlookupd=PATH or etcd=PATH, each with an
    /// optional ",members=N" (3)
    #[arg(long, value_name = "KIND=PATH", required_unless_present_any = ["http", "list"])]
    start: Vec<Program>,
    /// The TCP addresses of a cluster that runs already
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', requires = "http")]
    tcp: Vec<SocketAddr>,
    /// Its HTTP addresses, in the same order
    #[arg(long, value_name = "IP:PORT", value_delimiter = ',', requires = "tcp")]
    http: Vec<SocketAddr>,
    /// How much is registered
    #[arg(
        long,
        value_name = "SIZE",
        value_delimiter = ',',
        default_value = "small"
    )]
    pub(crate) size: Vec<Size>,
    /// Only workloads whose names contain one of these words
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,
    /// Print the names of all workloads and do nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// How often everything is repeated; the medians are told
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// How long each load is measured
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = positive)]
    seconds: f64,
    /// Operations a second of each load (open loop); without it, as fast as the target allows
    /// (closed loop)
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Also write everything to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where the started members keep their data: a folder on the disk that is to be measured
    #[arg(long, value_name = "FOLDER", default_value_os_t = std::env::temp_dir())]
    pub(crate) folder: PathBuf,
}

impl Args {
    /// All targets, in order.
    ///
    /// # Errors
    /// What is wrong with the addresses.
    pub(crate) fn targets(&self) -> Result<Vec<Spec>, String> {
        if self.tcp.len() != self.http.len() {
            return Err("there must be as many --tcp as --http addresses".into());
        }
        let mut targets: Vec<Spec> = self.start.iter().cloned().map(Spec::Start).collect();
        if !self.tcp.is_empty() {
            targets.push(Spec::Running {
                tcp: self.tcp.clone(),
                http: self.http.clone(),
            });
        }
        Ok(targets)
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            duration: Duration::from_secs_f64(self.seconds),
            rate: self.rate,
            only: self.only.clone(),
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number < 1e9 => Ok(number),
        _ => Err("must be a number above 0".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declaration_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        for line in [
            "bench",
            "bench --tcp 127.0.0.1:4160",
            "bench --start etcd",
            "bench --start etcd=x --seconds 0",
            "bench --start etcd=x --rate nan",
            "bench --start etcd=x --repeat 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("bench --list").is_ok());
        let args = parse("bench --tcp 127.0.0.1:1,127.0.0.1:2 --http 127.0.0.1:3").unwrap();
        assert!(args.targets().is_err());
        let args = parse("bench --start etcd=x --start etcd=y,members=1").unwrap();
        assert_eq!(args.targets().unwrap().len(), 2);
    }
}
