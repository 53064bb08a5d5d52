//! Reads flags from environment variables: `--data-path` from `RAFTLOOKUPD_DATA_PATH`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::canonical::{canonical, environment_name};
use super::flags::{declared, type_name};
use crate::error::{Error, Result};
use crate::suggestion::closest;

/// The beginning of every variable of ours.
const PREFIX: &str = "RAFTLOOKUPD_";

/// What makes the member part of a cluster. Empty, it would silently make a cluster of one.
const INITIAL_CLUSTER: &str = "RAFTLOOKUPD_INITIAL_CLUSTER";

/// What the environment says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// In the canonical form.
    pub(super) settings: Vec<String>,
    /// Lines for the log.
    pub(super) warnings: Vec<String>,
}

/// Reads the variables with our prefix. An empty one counts as absent, with a warning: compose
/// files make one of a value that was not given. So does an unknown one, unless it is one of those
/// that Kubernetes sets in every container if a service has our name.
///
/// # Errors
/// [`Error::Usage`] for a variable that is not UTF-8, and for an empty list of members.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Environment> {
    let flags = declared();
    let named = flags.iter().filter_map(|flag| {
        let name = flag.get_long()?;
        Some((environment_name(name), (name, type_name(flag) == "bool")))
    });
    let named: BTreeMap<String, (&str, bool)> = named.collect();
    let mut environment = Environment::default();
    let ours = variables.into_iter().filter_map(|(variable, value)| {
        let variable = variable.into_string().ok()?;
        variable.starts_with(PREFIX).then_some((variable, value))
    });
    for (variable, value) in ours {
        let Some((name, is_switch)) = named.get(&variable) else {
            if !is_of_a_service(&variable, &value.to_string_lossy()) {
                environment.warnings.push(unknown(&variable, &named));
            }
            continue;
        };
        if value.is_empty() && variable == INITIAL_CLUSTER {
            return Err(Error::Usage(format!(
                "invalid value \"\" for {variable}: it must list the members as name=host:port,...; \
                 unset it for a cluster of one"
            )));
        }
        if value.is_empty() {
            let warning = format!("ignoring {variable}: it is set to nothing");
            environment.warnings.push(warning);
            continue;
        }
        // A switch acts once; it is not a setting.
        if *is_switch {
            continue;
        }
        let value = value.into_string().map_err(|value| {
            Error::Usage(format!(
                "invalid value {value:?} for {variable}: it is not UTF-8"
            ))
        })?;
        environment.settings.push(canonical(name, &value));
    }
    Ok(environment)
}

/// A line about a variable that belongs to no flag.
fn unknown(variable: &str, named: &BTreeMap<String, (&str, bool)>) -> String {
    let lower = variable.to_lowercase();
    let known: BTreeMap<String, &String> = named
        .keys()
        .map(|name| (name.to_lowercase(), name))
        .collect();
    let meant = closest(&lower, known.keys().map(String::as_str));
    let hint = match meant.and_then(|meant| known.get(meant)) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "--help lists the flags, and each has a variable".into(),
    };
    format!("ignoring unknown variable {variable}: {hint}")
}

/// Whether Kubernetes sets it in every container for a service whose name begins with ours:
/// `RAFTLOOKUPD_PORT_4160_TCP`, `RAFTLOOKUPD_0_SERVICE_HOST` and the like.
fn is_of_a_service(variable: &str, value: &str) -> bool {
    let is_protocol = |word: &str| matches!(word, "TCP" | "UDP" | "SCTP");
    let words: Vec<&str> = variable.split('_').collect();
    match words.as_slice() {
        [.., "SERVICE", "HOST" | "PORT"] => true,
        [.., "PORT", port, protocol] | [.., "PORT", port, protocol, "PROTO" | "PORT" | "ADDR"] => {
            is_number(port) && is_protocol(protocol)
        }
        [.., "PORT"] => value.contains("://"),
        // A port with a name.
        _ => variable.contains("_SERVICE_PORT_"),
    }
}

fn is_number(word: &str) -> bool {
    word.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_read(variables: &[(&str, &str)]) -> Result<Environment> {
        read(
            variables
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn variables() {
        let environment = try_read(&[
            ("HOME", "/root"),
            ("RAFTLOOKUPD_DATA_PATH", "/data"),
            ("RAFTLOOKUPD_TCP_ADDRESS", ":1"),
            ("RAFTLOOKUPD_NAME", ""),
            ("RAFTLOOKUPD_VERSION", "true"),
        ]);
        let environment = environment.unwrap();
        assert_eq!(
            environment.settings,
            ["--data-path=/data", "--tcp-address=:1"]
        );
        assert_eq!(
            environment.warnings,
            ["ignoring RAFTLOOKUPD_NAME: it is set to nothing"]
        );
    }

    #[test]
    fn what_is_misspelt_is_named() {
        for (variable, hint) in [
            (
                "INITAL_CLUSTER",
                "did you mean RAFTLOOKUPD_INITIAL_CLUSTER?",
            ),
            ("DATAPATH", "did you mean RAFTLOOKUPD_DATA_PATH?"),
            ("TCP_ADDRES", "did you mean RAFTLOOKUPD_TCP_ADDRESS?"),
            ("SEEDS", "--help lists the flags, and each has a variable"),
        ] {
            let variable = format!("RAFTLOOKUPD_{variable}");
            let warnings = try_read(&[(&variable, "x")]).unwrap().warnings;
            let expected = format!("ignoring unknown variable {variable}: {hint}");
            assert_eq!(warnings, [expected]);
        }
        let text = try_read(&[("RAFTLOOKUPD_INITIAL_CLUSTER", "")]).unwrap_err();
        assert!(text.to_string().contains("unset it for a cluster of one"));
    }

    #[test]
    fn services_of_kubernetes_are_none_of_ours() {
        let of_services = [
            "RAFTLOOKUPD_PORT",
            "RAFTLOOKUPD_SERVICE_HOST",
            "RAFTLOOKUPD_SERVICE_PORT",
            "RAFTLOOKUPD_SERVICE_PORT_HTTP",
            "RAFTLOOKUPD_PORT_4160_TCP",
            "RAFTLOOKUPD_PEERS_PORT_4162_TCP_ADDR",
            "RAFTLOOKUPD_0_PORT_4160_UDP_PROTO",
        ];
        let environment = try_read(&of_services.map(|variable| (variable, "tcp://10.0.0.1:4160")));
        assert_eq!(environment.unwrap(), Environment::default());
    }

    #[test]
    fn what_is_no_text_is_not_passed_over() {
        use std::os::unix::ffi::OsStringExt;
        let path = OsString::from_vec(b"/data/caf\xe9".to_vec());
        let refused = read([("RAFTLOOKUPD_DATA_PATH".into(), path)]);
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("RAFTLOOKUPD_DATA_PATH") && text.contains("UTF-8"),
            "{text}"
        );
    }
}
