//! Declares the flags of `raftlookupd dev`.

use std::path::PathBuf;

use clap::Parser;

/// Runs a whole cluster on this machine, to try things out and to break it.
///
/// Starts members n1, n2, n3, ... as separate processes on 127.0.0.1, shows their logs, reports what
/// happens to them, and stops all of them on Ctrl-C. The next start continues with their data.
#[derive(Debug, Parser)]
#[command(name = "raftlookupd dev", no_binary_name = true)]
pub(super) struct Args {
    /// Number of members [default: as many as the data path has, or 3]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(super) nodes: Option<u16>,
    /// Directory for the members' data directories
    #[arg(long, default_value = "./raftlookupd-data-dev")]
    pub(super) data_path: PathBuf,
    /// V1 port of n1; its HTTP port is one higher, its peer port two higher. Ports of each further
    /// member are 100 higher [default: as in the data path, or 4160]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) base_port: Option<u16>,
    /// Flags for every member, such as --log-level=debug
    #[arg(last = true, value_name = "MEMBER FLAGS")]
    pub(super) member_flags: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let read = |words: &[&str]| Args::try_parse_from(words);
        let args = read(&[]).unwrap();
        assert_eq!((args.nodes, args.base_port), (None, None));
        let args = read(&[
            "--nodes",
            "5",
            "--base-port=5000",
            "--",
            "--log-level=debug",
        ])
        .unwrap();
        assert_eq!((args.nodes, args.base_port), (Some(5), Some(5000)));
        assert_eq!(args.member_flags, ["--log-level=debug"]);
        for words in [
            &["--nodes=0"][..],
            &["--nodes=10"],
            &["--base-port=0"],
            &["stray"],
            &["--x"],
        ] {
            assert!(read(words).is_err(), "{words:?}");
        }
    }
}
