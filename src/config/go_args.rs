//! Reads the command line as Go's flag package does, which is how nsqlookupd's users write theirs.
//!
//! One dash or two; `-flag=value` or `-flag value`; a switch takes a value only after `=`;
//! everything after the first word that is not a flag, or after `--`, is ignored.

use std::ffi::OsString;

use super::canonical::canonical;
use super::flags::{declared, type_name};
use crate::error::{Error, Result};

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommandLine {
    /// The usage text.
    Help,
    /// The settings, in their canonical form.
    Settings(Vec<String>),
}

/// Reads the words after the program's name.
pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<CommandLine> {
    let flags = declared();
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let word = text(word)?;
        let Some(flag) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            break;
        };
        if flag == "-" {
            break;
        }
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.starts_with(['-', '=']) {
            return Err(Error::UnknownFlag(format!("bad flag syntax: {word}")));
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (flag, None),
        };
        let Some(known) = flags.iter().find(|known| known.get_long() == Some(name)) else {
            if matches!(name, "h" | "help") {
                return Ok(CommandLine::Help);
            }
            return Err(Error::UnknownFlag(format!(
                "flag provided but not defined: -{name}"
            )));
        };
        let value = match (type_name(known), value) {
            ("bool", value) => read_switch(name, value)?,
            (_, Some(value)) => value,
            (_, None) => match words.next() {
                Some(value) => text(value)?,
                None => return Err(Error::Usage(format!("flag needs an argument: -{name}"))),
            },
        };
        settings.push(canonical(name, &value));
    }
    Ok(CommandLine::Settings(settings))
}

fn read_switch(name: &str, value: Option<String>) -> Result<String> {
    let Some(value) = value else {
        return Ok("true".into());
    };
    match parse_bool(&value) {
        Some(value) => Ok(value.to_string()),
        None => Err(Error::Usage(format!(
            "invalid boolean value {value:?} for -{name}: parse error"
        ))),
    }
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn text(word: OsString) -> Result<String> {
    word.into_string()
        .map_err(|word| Error::Usage(format!("{word:?} is not valid UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_words(words: &[&str]) -> Result<CommandLine> {
        read(words.iter().map(OsString::from))
    }

    #[test]
    fn forms() {
        for (words, settings) in [
            (&[][..], &[][..]),
            (&["-tcp-address=h:1"], &["--tcp-address=h:1"]),
            (&["--tcp-address", "h:1"], &["--tcp-address=h:1"]),
            (
                &["-verbose", "-log-level", "debug"],
                &["--verbose=true", "--log-level=debug"],
            ),
            (&["--verbose=F"], &["--verbose=false"]),
            (&["-version=1"], &["--version=true"]),
            // A switch does not take the next word; it is the first that is not a flag.
            (&["--verbose", "false", "--bogus"], &["--verbose=true"]),
            (&["--version", "more"], &["--version=true"]),
            (&["--name=a", "stray", "--bogus"], &["--name=a"]),
            (&["--name=a", "--", "--bogus"], &["--name=a"]),
            (&["--name=a", "-", "--bogus"], &["--name=a"]),
            (&["--log-prefix", "-x"], &["--log-prefix=-x"]),
            (&["--log-prefix", "--"], &["--log-prefix=--"]),
            (&["--log-prefix="], &["--log-prefix="]),
            (&["--log-prefix=a=b"], &["--log-prefix=a=b"]),
            (&["--name=a", "--name", "b"], &["--name=a", "--name=b"]),
        ] {
            let settings = settings.iter().map(ToString::to_string).collect();
            assert_eq!(
                read_words(words).unwrap(),
                CommandLine::Settings(settings),
                "{words:?}"
            );
        }
        for words in [
            &["-h"][..],
            &["--help"],
            &["-help"],
            &["--verbose", "-h", "--bogus"],
        ] {
            assert_eq!(read_words(words).unwrap(), CommandLine::Help, "{words:?}");
        }
    }

    #[test]
    fn mistakes() {
        for (words, text) in [
            (&["--bogus"][..], "flag provided but not defined: -bogus"),
            (&["-x"], "flag provided but not defined: -x"),
            (&["--bogus=1"], "flag provided but not defined: -bogus"),
            (
                &["--TCP-address=h:1"],
                "flag provided but not defined: -TCP-address",
            ),
            (
                &["--version", "--bogus"],
                "flag provided but not defined: -bogus",
            ),
            (&["---tcp-address=x"], "bad flag syntax: ---tcp-address=x"),
            (&["--=x"], "bad flag syntax: --=x"),
            (&["-=x"], "bad flag syntax: -=x"),
            (&["--tcp-address"], "flag needs an argument: -tcp-address"),
            (&["--config"], "flag needs an argument: -config"),
            (
                &["--verbose=maybe"],
                "invalid boolean value \"maybe\" for -verbose: parse error",
            ),
        ] {
            assert_eq!(read_words(words).unwrap_err().to_string(), text);
        }
    }
}
