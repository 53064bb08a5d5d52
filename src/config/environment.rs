//! Every flag also as an environment variable: `--data-path` as `RAFTLOOKUPD_DATA_PATH`.

use super::flags::{canonical, declared, environment_name, type_name};

/// The settings found. An empty variable counts as absent, for that is what compose files make
/// of a value that nobody gave. Other variables with our prefix are no mistake: Kubernetes gives
/// every container `RAFTLOOKUPD_PORT` and the like when there is a service of that name.
pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let flags = declared();
    let named = flags.iter().filter_map(|flag| {
        let name = flag.get_long()?;
        // A switch acts once; it is no setting.
        let value = variable(&environment_name(name)).filter(|value| !value.is_empty())?;
        (type_name(flag) != "bool").then(|| canonical(name, &value))
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
            "RAFTLOOKUPD_NAME" => Some(String::new()),
            "RAFTLOOKUPD_VERSION" => Some("true".into()),
            _ => None,
        });
        assert_eq!(settings, ["--tcp-address=:1", "--data-path=/data"]);
    }
}
