//! Reads flags from environment variables: `--data-path` from `RAFTLOOKUPD_DATA_PATH`.

use std::ffi::OsString;

use super::canonical::{canonical, environment_name};
use super::flags::{declared, type_name};
use crate::error::{Error, Result};

/// The settings found. An empty variable counts as absent: compose files make one of a value that
/// was not given. Unknown variables with our prefix are ignored: Kubernetes sets
/// `RAFTLOOKUPD_PORT` and the like in every container if there is a service of that name.
///
/// # Errors
/// [`Error::Usage`] for a variable that is not UTF-8.
pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Vec<String>> {
    let flags = declared();
    let named = flags.iter().filter_map(|flag| {
        let name = flag.get_long()?;
        let variable_name = environment_name(name);
        // A switch acts once; it is not a setting.
        let value = variable(&variable_name)
            .filter(|value| !value.is_empty() && type_name(flag) != "bool")?;
        let value = value.into_string().map_err(|value| {
            Error::Usage(format!(
                "invalid value {value:?} for {variable_name}: it is not UTF-8"
            ))
        });
        Some(value.map(|value| canonical(name, &value)))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let settings = read(|name| match name {
            "RAFTLOOKUPD_DATA_PATH" => Some("/data".into()),
            "RAFTLOOKUPD_TCP_ADDRESS" => Some(":1".into()),
            "RAFTLOOKUPD_NAME" => Some(OsString::new()),
            "RAFTLOOKUPD_VERSION" => Some("true".into()),
            _ => None,
        });
        assert_eq!(settings.unwrap(), ["--tcp-address=:1", "--data-path=/data"]);
    }

    #[test]
    fn what_is_no_text_is_not_passed_over() {
        use std::os::unix::ffi::OsStringExt;
        let path = || OsString::from_vec(b"/data/caf\xe9".to_vec());
        let refused = read(|name| (name == "RAFTLOOKUPD_DATA_PATH").then(path));
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("RAFTLOOKUPD_DATA_PATH") && text.contains("UTF-8"),
            "{text}"
        );
    }
}
