//! Parses `--initial-cluster a=host1:4162,b=host2:4162`, which is etcd's convention.

use std::collections::BTreeMap;

use super::addresses::check_host_port;

/// The first members: name and `host:port` of the peer interface.
pub type InitialCluster = BTreeMap<String, String>;

/// Parses the list.
///
/// # Errors
/// What is wrong with which entry, and what would be right.
pub(crate) fn parse_initial_cluster(text: &str) -> Result<InitialCluster, String> {
    let mut members = InitialCluster::new();
    for entry in text.split(',') {
        let (name, address) = entry
            .trim()
            .split_once('=')
            .ok_or_else(|| format!("{entry:?} must be name=host:port"))?;
        parse_name(name).map_err(|reason| format!("in {entry:?}: {reason}"))?;
        check_host_port(address).map_err(|reason| format!("in {entry:?}: {reason}"))?;
        if let Some((other, _)) = members.iter().find(|(_, taken)| *taken == address) {
            return Err(format!("{other} and {name} cannot have the same address"));
        }
        if members.insert(name.into(), address.into()).is_some() {
            return Err(format!("{name} is listed twice"));
        }
    }
    Ok(members)
}

/// Parses a member's name, which must fit into the list.
///
/// # Errors
/// What would be right.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '=');
    if text.is_empty() || text.contains(bad) {
        return Err("a name must not be empty, nor contain a comma, = or white space".into());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let members = parse_initial_cluster("b=host2:4162, a=[::1]:4162,c-1.x=10.0.0.3:1").unwrap();
        let expected = [
            ("a", "[::1]:4162"),
            ("b", "host2:4162"),
            ("c-1.x", "10.0.0.3:1"),
        ];
        let expected = expected.map(|(name, address)| (name.into(), address.into()));
        assert_eq!(members, InitialCluster::from(expected));
    }

    #[test]
    fn bad_lists() {
        for (text, said) in [
            ("", "\"\" must be name=host:port"),
            ("host:4162", "\"host:4162\" must be name=host:port"),
            ("a=h:1,", "\"\" must be name=host:port"),
            ("=h:1", "a name must not be empty"),
            ("a b=h:1", "white space"),
            ("a=h", "host:port"),
            ("a=:1", "host:port"),
            ("a=h:0", "1 to 65535"),
            ("a=h:70000", "1 to 65535"),
            ("a=h:1,a=h:2", "a is listed twice"),
            ("a=h:1,b=h:1", "a and b cannot have the same address"),
            ("a=b=h:1", "host"),
        ] {
            let error = parse_initial_cluster(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
