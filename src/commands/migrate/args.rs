//! Declares the flags of `raftlookupd import` and `raftlookupd diff`. PURE.

use std::ffi::OsString;

use clap::Parser;

use crate::commands::address::Address;
use crate::commands::clap_text::{Request, parse};
use crate::error::{Error, Result};

/// A command of a migration, with its flags.
#[derive(Debug, Parser)]
#[command(
    name = "raftlookupd",
    bin_name = "raftlookupd",
    no_binary_name = true,
    disable_help_subcommand = true
)]
pub enum Command {
    /// Copies topics, channels and tombstones from running nsqlookupds to a cluster
    ///
    /// Only what is missing is created and nothing is ever deleted, so it can be repeated at any
    /// time. Names that end in #ephemeral are skipped: they go with their last claim. A tombstone
    /// is set only if its nsqd has registered the topic in the cluster; otherwise it would have no
    /// effect.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Standard output: a line for each item once it is created, such as
  + topic orders
  + channel orders/billing
  + tombstone orders nsqd1:4150
and a summary. Exit status: 0 everything is there, 1 the import failed (what was created stays; run
it again), 2 the flags are wrong."
    )]
    Import(Import),
    /// Compares running nsqlookupds, taken together, with a cluster
    ///
    /// Compares topics, channels, the producers of each topic, and tombstones. Of #ephemeral topics
    /// only the producers are compared: nsqlookupd keeps such names after their last claim, a
    /// cluster does not.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Standard output: a line for each difference, sorted by topic, such as
  only at http://old:4161: channel orders/billing
  only here: producer orders nsqd1:4150
where \"here\" is the cluster. Exit status: 0 nothing differs, 1 something differs, 2 the comparison
failed, or the flags are wrong."
    )]
    Diff(Diff),
}

/// The flags of `raftlookupd import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    #[command(flatten)]
    pub(super) registries: Registries,
    /// Print what would be created, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// The flags of `raftlookupd diff`.
#[derive(Debug, clap::Args)]
pub struct Diff {
    #[command(flatten)]
    pub(super) registries: Registries,
}

/// The registries to read.
#[derive(Debug, clap::Args)]
pub(super) struct Registries {
    /// All running nsqlookupds: http://old1:4161,http://old2:4161
    #[arg(long, value_name = "URL,...", required = true, value_delimiter = ',',
        value_parser = Address::parse)]
    pub(super) from: Vec<Address>,
    /// Members of the cluster, tried in order [default: http://127.0.0.1:4161, if it is a member]
    #[arg(long, value_name = "URL,...", value_delimiter = ',', value_parser = Address::parse)]
    pub(super) to: Option<Vec<Address>>,
}

/// Reads the command line from `import` or `diff` on.
///
/// # Errors
/// [`Error::Usage`], one line that names the flag, its value, and what would be right.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Request<Command>> {
    let request = parse::<Command>(words.into_iter().map(two_dashes))?;
    if let Request::Run(command) = &request {
        command.registries().check()?;
    }
    Ok(request)
}

impl Command {
    fn registries(&self) -> &Registries {
        match self {
            Command::Import(Import { registries, .. }) | Command::Diff(Diff { registries }) => {
                registries
            }
        }
    }
}

impl Registries {
    fn check(&self) -> Result<()> {
        let mut pairs = self
            .from
            .iter()
            .flat_map(|from| self.to.iter().flatten().map(move |to| (from, to)));
        match pairs.find(|(from, to)| from.is_same_as(to)) {
            Some((from, _)) => Err(Error::Usage(format!("--from and --to both name {from}"))),
            None => Ok(()),
        }
    }
}

/// nsqlookupd's users may write one dash; no value begins with one.
fn two_dashes(word: OsString) -> OsString {
    match word.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            format!("-{text}").into()
        }
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Request<Command>> {
        super::read(words.iter().map(OsString::from))
    }

    fn import(words: &[&str]) -> (String, String, bool) {
        let shown = |addresses: Vec<Address>| {
            let addresses = addresses.iter().map(ToString::to_string);
            addresses.collect::<Vec<_>>().join(" ")
        };
        match read(words).unwrap() {
            Request::Run(Command::Import(Import {
                registries: Registries { from, to },
                dry_run,
            })) => (shown(from), shown(to.unwrap_or_default()), dry_run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags() {
        let local = "";
        for (words, from, to, dry_run) in [
            (
                &["import", "--from=http://a:1"][..],
                "http://a:1",
                local,
                false,
            ),
            (
                &["import", "-from", "a:1,http://b:2", "-dry-run"],
                "http://a:1 http://b:2",
                local,
                true,
            ),
            (
                &["import", "--from=a:1", "--from=b:2", "--to=c:3,d:4"],
                "http://a:1 http://b:2",
                "http://c:3 http://d:4",
                false,
            ),
        ] {
            let expected = (from.to_string(), to.to_string(), dry_run);
            assert_eq!(import(words), expected, "{words:?}");
        }
        assert!(matches!(
            read(&["diff", "-from=a:1"]).unwrap(),
            Request::Run(Command::Diff(_))
        ));
    }

    #[test]
    fn help() {
        for command in ["import", "diff"] {
            for word in ["-h", "-help", "--help"] {
                let Request::Help(text) = read(&[command, word]).unwrap() else {
                    panic!("no help");
                };
                for part in [
                    command,
                    "--from <URL,...>",
                    "--to <URL,...>",
                    "Exit status:",
                ] {
                    assert!(text.contains(part), "{part:?} is not in {text}");
                }
            }
        }
    }

    #[test]
    fn mistakes() {
        for (words, text) in [
            (
                &["import"][..],
                "the following required arguments were not provided: --from <URL,...>",
            ),
            (
                &["import", "--from=https://a:1"],
                "invalid value 'https://a:1' for '--from <URL,...>': \
                 https is not supported, must be http://host:port",
            ),
            (
                &["diff", "--from=a:1,,b:2"],
                "invalid value '' for '--from <URL,...>': must be http://host:port",
            ),
            (
                &["diff", "--from=a:1", "--to=here"],
                "invalid value 'here' for '--to <URL,...>': must be http://host:port",
            ),
            (
                &["diff", "--from=a:1", "-dry-run"],
                "unexpected argument '--dry-run' found",
            ),
            (
                &["import", "--from=a:1", "b:1"],
                "unexpected argument 'b:1' found",
            ),
            (
                &["import", "--from"],
                "a value is required for '--from <URL,...>' but none was supplied",
            ),
            (
                &["import", "--from=a:1,b:1", "--to=c:1,http://B:1"],
                "--from and --to both name http://b:1",
            ),
        ] {
            let error = read(words).unwrap_err();
            assert_eq!(error.to_string(), text, "{words:?}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
