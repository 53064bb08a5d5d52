//! The flags of `raftlookupd import` and `raftlookupd diff`. PURE.

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

use super::address::Address;
use crate::error::{Error, Result};

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Print this text.
    Help(String),
    /// Run this.
    Run(Command),
}

/// The commands of a migration, with their flags.
#[derive(Debug, Parser)]
#[command(
    name = "raftlookupd",
    bin_name = "raftlookupd",
    no_binary_name = true,
    disable_help_subcommand = true
)]
pub enum Command {
    /// Creates in a cluster the topics and channels that running nsqlookupds list, and sets their
    /// tombstones
    ///
    /// Only what is missing is created and nothing is ever deleted, so it can be repeated at any
    /// time. Names that end in #ephemeral are left out: they go with their last claim. A tombstone
    /// is set if its nsqd is registered in the cluster for the topic; it would have no effect
    /// before.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Standard output: a line for each thing when it is done, such as
  + topic orders
  + channel orders/billing
  + tombstone orders nsqd1:4150
and a summary. Exit status: 0 all is there, 1 it could not be done (what was done stays; repeat),
2 the flags are wrong."
    )]
    Import(Import),
    /// Shows what differs between running nsqlookupds, taken together, and a cluster
    ///
    /// Compares topics, channels, the producers of each topic, and tombstones. Of #ephemeral
    /// topics only the producers are compared: nsqlookupd keeps such names after their last
    /// claim, a cluster does not.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Standard output: a line for each difference, sorted by topic, such as
  only at http://old:4161: channel orders/billing
  only here: producer orders nsqd1:4150
where \"here\" is the cluster. Exit status: 0 nothing differs, 1 something does, 2 it could not be
found out, or the flags are wrong."
    )]
    Diff(Diff),
}

/// The flags of `raftlookupd import`.
#[derive(Debug, clap::Args)]
pub struct Import {
    #[command(flatten)]
    pub(super) registries: Registries,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// The flags of `raftlookupd diff`.
#[derive(Debug, clap::Args)]
pub struct Diff {
    #[command(flatten)]
    pub(super) registries: Registries,
}

/// Who is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Registries {
    /// The running nsqlookupds, all of them: http://old1:4161,http://old2:4161
    #[arg(long, value_name = "URL,...", required = true, value_delimiter = ',',
        value_parser = Address::parse)]
    pub(super) from: Vec<Address>,
    /// Members of the cluster, tried in this order [default: http://127.0.0.1:4161, if that is one]
    #[arg(long, value_name = "URL,...", value_delimiter = ',', value_parser = Address::parse)]
    pub(super) to: Option<Vec<Address>>,
}

/// Reads the command line from `import` or `diff` on.
///
/// # Errors
/// [`Error::Usage`], one line that names the flag, its value, and what would be right.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let command = match Command::try_parse_from(words.into_iter().map(two_dashes)) {
        Ok(command) => command,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Request::Help(error.to_string()));
        }
        Err(error) => return Err(Error::Usage(one_line(&error))),
    };
    let (Command::Import(Import { registries, .. }) | Command::Diff(Diff { registries })) =
        &command;
    registries.check()?;
    Ok(Request::Run(command))
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

/// nsqlookupd's users may write one dash. No value begins with one.
fn two_dashes(word: OsString) -> OsString {
    match word.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            format!("-{text}").into()
        }
        _ => word,
    }
}

/// clap's first line says what is wrong; the rest is advice and usage.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return "--from must say which nsqlookupds to read, as http://host:port".into();
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Request> {
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
                "--from must say which nsqlookupds to read, as http://host:port",
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
