//! The flags of `raftlookupd dev`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

/// Runs a whole cluster on this machine, to try and to break.
///
/// Starts the members n1, n2, n3, ... as processes of their own on 127.0.0.1, shows their logs,
/// says what happens to them, and stops them all on Ctrl-C. The next start continues from what
/// they remember.
#[derive(Debug, Parser)]
#[command(name = "raftlookupd dev", no_binary_name = true)]
pub(super) struct Args {
    /// How many members; by default as many as the data path has, or 3
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(super) nodes: Option<u16>,
    /// The folder for the members' folders
    #[arg(long, default_value = "./raftlookupd-data-dev")]
    pub(super) data_path: PathBuf,
    /// Where n1 listens for nsqds; for HTTP it is one more, for the other members two more.
    /// Each further member listens 100 above. By default as in the data path, or 4160
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) base_port: Option<u16>,
    /// Flags for every member, such as --log-level=debug
    #[arg(last = true, value_name = "MEMBER FLAGS")]
    pub(super) member_flags: Vec<String>,
}

/// Reads the words after `dev`.
pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
    Args::try_parse_from(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        let read = |words: &[&str]| super::read(words.iter().map(OsString::from));
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
