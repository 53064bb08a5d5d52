//! Chooses a command by the first word of the command line. Without one, a member runs.
//!
//! nsqlookupd ignores words that are not flags, so it starts whatever is typed. Here a first word
//! that is not a command is refused: nobody who types `raftlookupd status` wants a new server that
//! listens on every interface.
//!
//! - [`cluster`] shows and changes who belongs to a cluster.
//! - [`dev`] runs a whole cluster on one machine, each member in a process of its own.
//! - [`migrate`] has `import` and `diff`: from running nsqlookupds to a cluster.
//! - [`recover`] reads data paths, and makes a new cluster when the quorum is lost.

mod address;
mod clap_text;
pub mod cluster;
pub mod dev;
pub mod migrate;
pub mod recover;

use std::ffi::OsString;

use crate::error::{Error, Result};
use crate::suggestion::closest;
pub use clap_text::Request;

/// The words that are commands.
const COMMANDS: [&str; 7] = [
    "cluster", "dev", "import", "diff", "recover", "help", "version",
];

/// What the command line chooses. The words are those that the command reads itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Run a member; these are its flags.
    Member(Vec<OsString>),
    /// `cluster`: a verb and its flags.
    Cluster(Vec<OsString>),
    /// `dev`, and its flags.
    Dev(Vec<OsString>),
    /// `import` or `diff`, that word included.
    Migrate(Vec<OsString>),
    /// `recover`, and its flags.
    Recover(Vec<OsString>),
    /// Print the usage text.
    Help,
    /// Print the version.
    Version,
}

/// Looks at the first word after the program's name.
///
/// # Errors
/// [`Error::UnknownCommand`] if it is neither a command nor a flag.
pub fn choose(words: impl IntoIterator<Item = OsString>) -> Result<Chosen> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let Some(first) = words.first() else {
        return Ok(Chosen::Member(words));
    };
    let first = first.to_string_lossy().into_owned();
    if first.starts_with('-') {
        return Ok(Chosen::Member(words));
    }
    match first.as_str() {
        "import" | "diff" => Ok(Chosen::Migrate(words)),
        "dev" => Ok(Chosen::Dev(words.split_off(1))),
        "cluster" => Ok(Chosen::Cluster(words.split_off(1))),
        "recover" => Ok(Chosen::Recover(words.split_off(1))),
        "help" => help(words.get(1)),
        "version" => Ok(Chosen::Version),
        _ => Err(unknown(&first)),
    }
}

/// `help`, or `help COMMAND`.
fn help(command: Option<&OsString>) -> Result<Chosen> {
    let Some(command) = command else {
        return Ok(Chosen::Help);
    };
    let flag = OsString::from("--help");
    match command.to_string_lossy().as_ref() {
        "import" | "diff" => Ok(Chosen::Migrate(vec![command.clone(), flag])),
        "dev" => Ok(Chosen::Dev(vec![flag])),
        "cluster" => Ok(Chosen::Cluster(vec![flag])),
        "recover" => Ok(Chosen::Recover(vec![flag])),
        "help" | "version" => Ok(Chosen::Help),
        other if other.starts_with('-') => Ok(Chosen::Help),
        other => Err(unknown(other)),
    }
}

fn unknown(word: &str) -> Error {
    let hint = match closest(word, COMMANDS) {
        Some(command) => format!("did you mean {command:?}?"),
        None => format!("the commands are {}", COMMANDS.join(", ")),
    };
    // Quoted, since what was typed may contain anything and the message must stay one line.
    Error::UnknownCommand(format!("unknown command {word:?}: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_choose(line: &str) -> Result<Chosen> {
        choose(line.split(' ').map(OsString::from))
    }

    #[test]
    fn commands() {
        let words = |line: &str| line.split_whitespace().map(OsString::from).collect();
        for (line, chosen) in [
            ("dev", Chosen::Dev(words(""))),
            ("cluster members", Chosen::Cluster(words("members"))),
            ("help cluster", Chosen::Cluster(words("--help"))),
            ("dev --nodes 5", Chosen::Dev(words("--nodes 5"))),
            ("help dev", Chosen::Dev(words("--help"))),
            (
                "recover --data-path=a",
                Chosen::Recover(words("--data-path=a")),
            ),
            (
                "import --from=a:1",
                Chosen::Migrate(words("import --from=a:1")),
            ),
            ("help diff", Chosen::Migrate(words("diff --help"))),
            ("help", Chosen::Help),
            ("help version", Chosen::Help),
            ("help --name=a", Chosen::Help),
            ("version", Chosen::Version),
            ("--name=a stray", Chosen::Member(words("--name=a stray"))),
            ("- stray", Chosen::Member(words("- stray"))),
        ] {
            assert_eq!(try_choose(line).unwrap(), chosen, "{line}");
        }
        assert_eq!(choose([]).unwrap(), Chosen::Member(Vec::new()));
    }

    #[test]
    fn other_words_are_refused() {
        let all = "the commands are cluster, dev, import, diff, recover, help, version";
        for (line, word, hint) in [
            ("status", "status", all),
            ("join", "join", all),
            ("member list", "member", all),
            ("dvev --nodes=3", "dvev", "did you mean \"dev\"?"),
            ("DEV", "DEV", "did you mean \"dev\"?"),
            ("import-x", "import-x", "did you mean \"import\"?"),
            ("ver", "ver", "did you mean \"version\"?"),
            ("help dff", "dff", "did you mean \"diff\"?"),
            ("", "", all),
            ("a\nb", "a\\nb", all),
        ] {
            let error = try_choose(line).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("unknown command \"{word}\": {hint}")
            );
            assert_eq!(error.exit_code(), 2);
        }
    }
}
