//! Reads the configuration file: TOML, whose keys are the flags with underscores.

use std::path::Path;

use clap::Arg;
use toml::{Table, Value};

use super::canonical::{canonical, key};
use super::flags::{declared, type_name};
use crate::error::{Error, Result};

/// The contents of a configuration file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct File {
    /// In the canonical form.
    pub(super) settings: Vec<String>,
    /// One line for each unknown key. nsqlookupd ignores them, so a file that works there must work
    /// here; but a misspelt key should not go unnoticed.
    pub(super) warnings: Vec<String>,
}

/// Reads the file.
pub(super) fn load(path: &Path) -> Result<File> {
    let unusable = |reason| Error::ConfigFile {
        path: path.to_path_buf(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let table = text.parse::<Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        unusable(format!("line {line}: {}", error.message()))
    })?;
    read(&table)
}

fn read(table: &Table) -> Result<File> {
    let flags = declared();
    let flags: Vec<&Arg> = flags.iter().filter(|flag| !flag.is_hide_set()).collect();
    let mut file = File::default();
    for (found, value) in table {
        let flag = flags
            .iter()
            .find(|flag| flag.get_long().is_some_and(|name| key(name) == *found));
        match flag {
            // Switches and the file's own name: nsqlookupd ignores them here.
            Some(flag) if type_name(flag) == "bool" || flag.get_long() == Some("config") => {}
            Some(flag) => {
                let name = flag.get_long().unwrap_or_default();
                let value = setting(name, type_name(flag), value)?;
                file.settings.push(canonical(name, &value));
            }
            None => file.warnings.push(unknown(found, &flags)),
        }
    }
    Ok(file)
}

/// A value as it would be written on the command line.
fn setting(name: &str, kind: &str, value: &Value) -> Result<String> {
    let right = match (kind, value) {
        (_, Value::String(text)) => return Ok(text.clone()),
        ("duration", Value::Integer(millis)) => return Ok(format!("{millis}ms")),
        ("int", Value::Integer(number)) => return Ok(number.to_string()),
        _ if name == "log-level" => return Ok(value.to_string()),
        ("duration", _) => "must be a string like \"45s\", or milliseconds as an integer",
        ("int", _) => "must be an integer",
        _ => "must be a string",
    };
    Err(Error::ConfigValue {
        key: key(name),
        value: value.to_string(),
        reason: right.into(),
    })
}

fn unknown(found: &str, flags: &[&Arg]) -> String {
    let meant = key(&found.to_lowercase());
    let meant = flags
        .iter()
        .filter_map(|flag| flag.get_long().map(key))
        .find(|name| *name == meant);
    match meant {
        Some(meant) => format!("ignoring unknown config key {found:?}; did you mean {meant:?}?"),
        None => format!("ignoring unknown config key {found:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nsqlookupd.cfg");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn values() {
        for (text, settings) in [
            ("", &[][..]),
            ("# a comment", &[]),
            ("tcp_address = ':1'", &["--tcp-address=:1"]),
            ("tombstone_lifetime = 0", &["--tombstone-lifetime=0ms"]),
            (
                "tombstone_lifetime = 3600000",
                &["--tombstone-lifetime=3600000ms"],
            ),
            ("tombstone_lifetime = \"1h\"", &["--tombstone-lifetime=1h"]),
            ("snapshot_count = 5", &["--snapshot-count=5"]),
            ("log_level = 5", &["--log-level=5"]),
            ("data_path = '/data'", &["--data-path=/data"]),
            (
                "verbose = true\nversion = true\nconfig = '/nonexistent'",
                &[],
            ),
        ] {
            let file = parse(text).unwrap();
            assert_eq!(file.settings, settings, "{text}");
            assert_eq!(file.warnings, [""; 0], "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_named() {
        for (text, warning) in [
            (
                "unknown_key = 1",
                "ignoring unknown config key \"unknown_key\"",
            ),
            (
                "[section]\nkey = 'x'",
                "ignoring unknown config key \"section\"",
            ),
            (
                "tombstone-lifetime = 'x'",
                "ignoring unknown config key \"tombstone-lifetime\"; did you mean \"tombstone_lifetime\"?",
            ),
            (
                "Log_Level = 'bogus'",
                "ignoring unknown config key \"Log_Level\"; did you mean \"log_level\"?",
            ),
            (
                "stop_on_stdin_eof = true",
                "ignoring unknown config key \"stop_on_stdin_eof\"",
            ),
        ] {
            let file = parse(text).unwrap();
            assert_eq!(file.settings, [""; 0], "{text}");
            assert_eq!(file.warnings, [warning], "{text}");
        }
    }

    #[test]
    fn bad_files() {
        for (text, said) in [
            ("not toml", "nsqlookupd.cfg - line 1: "),
            ("tcp_address = ", "line 1: "),
            ("a = 1\nb = 'b", "line 2: "),
            (
                "log_level = 'info'\nlog_level = 'info'",
                "line 2: duplicate key",
            ),
            (
                "tombstone_lifetime = 1.5",
                "failed to coerce value for tombstone_lifetime (1.5) - must be a string like",
            ),
            (
                "inactive_producer_timeout = []",
                "failed to coerce value for inactive_producer_timeout ([]) - ",
            ),
            (
                "tcp_address = 5",
                "failed to coerce value for tcp_address (5) - must be a string",
            ),
            ("snapshot_count = true", "(true) - must be an integer"),
        ] {
            let said_really = parse(text).unwrap_err().to_string();
            assert!(said_really.contains(said), "{text}: {said_really}");
            assert!(!said_really.contains('\n'), "{said_really}");
        }
        let missing = load(Path::new("/nonexistent.cfg")).unwrap_err().to_string();
        assert!(
            missing.starts_with("failed to load config file /nonexistent.cfg - "),
            "{missing}"
        );
    }
}
