//! Turns what clap has to say into help or a one-line error, for the commands that use its parser.

use clap::Parser;
use clap::error::ErrorKind;

use crate::error::{Error, Result};

/// What the words after a command ask for.
#[derive(Debug)]
pub enum Request<T> {
    /// Print this text.
    Help(String),
    /// Run this.
    Run(T),
}

/// Parses the words of a command.
///
/// # Errors
/// [`Error::Usage`], one line that names the flag, its value, and what would be right.
pub(super) fn parse<T: Parser>(
    words: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Request<T>> {
    match T::try_parse_from(words) {
        Ok(parsed) => Ok(Request::Run(parsed)),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            Ok(Request::Help(error.to_string()))
        }
        Err(error) => Err(Error::Usage(one_line(&error))),
    }
}

/// clap's first line says what is wrong; the rest is advice and usage. Missing flags are named on
/// the lines behind it.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return line.to_string();
    }
    let flags = lines.map(str::trim).take_while(|line| !line.is_empty());
    format!("{line} {}", flags.collect::<Vec<_>>().join(", "))
}
