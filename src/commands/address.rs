//! Parses the address of an nsqlookupd's or member's HTTP interface. PURE.

use std::fmt;

use reqwest::Url;

use crate::config::check_host_port;

/// `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct Address {
    shown: String,
    url: Url,
}

impl Address {
    /// Reads `http://host:port`, or `host:port` as nsqadmin takes it.
    ///
    /// # Errors
    /// What would be right.
    pub(in crate::commands) fn parse(text: &str) -> Result<Address, String> {
        let right = || "must be http://host:port".to_string();
        if text.starts_with("https://") {
            return Err("https is not supported, must be http://host:port".into());
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let host_port = rest.strip_suffix('/').unwrap_or(rest);
        check_host_port(host_port).map_err(|_| right())?;
        let shown = format!("http://{host_port}");
        let url = Url::parse(&shown).map_err(|_| right())?;
        // What looks like a host may contain more.
        let plain = url.path() == "/"
            && url.username().is_empty()
            && url.query().is_none()
            && url.fragment().is_none();
        plain.then_some(Address { shown, url }).ok_or_else(right)
    }

    /// The URL of a request, with its arguments escaped.
    pub(in crate::commands) fn url(&self, path: &str, arguments: &[(&str, &str)]) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        if !arguments.is_empty() {
            url.query_pairs_mut().extend_pairs(arguments);
        }
        url
    }

    /// Whether both are the same address, as far as their texts show.
    pub(in crate::commands) fn is_same_as(&self, other: &Address) -> bool {
        self.url == other.url
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("http://old:4161", "http://old:4161"),
            ("http://old:4161/", "http://old:4161"),
            ("old:4161", "http://old:4161"),
            ("http://[::1]:4161", "http://[::1]:4161"),
            ("http://my_host:80", "http://my_host:80"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "old",
            "http://",
            "http://old",
            "http://old:x",
            "http://old:70000",
            "ftp://old:4161",
            "http://me@old:4161",
            "http://me:word@old:4161",
            "http://old:4161/topics",
            "http://old?x:4161",
            "http://old#x:4161",
            "http://o ld:4161",
        ] {
            let said = Address::parse(text).unwrap_err();
            assert_eq!(said, "must be http://host:port", "{text}");
        }
        let said = Address::parse("https://old:4161").unwrap_err();
        assert!(said.starts_with("https is not supported"), "{said}");
    }

    #[test]
    fn arguments_are_escaped() {
        let address = Address::parse("http://old:4161").unwrap();
        assert_eq!(address.url("/ping", &[]).as_str(), "http://old:4161/ping");
        let url = address.url("/channels", &[("topic", "a#ephemeral"), ("x", "1&y=2 ")]);
        assert_eq!(
            url.as_str(),
            "http://old:4161/channels?topic=a%23ephemeral&x=1%26y%3D2+"
        );
    }

    #[test]
    fn the_same_place() {
        let same = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| Address::parse(text).unwrap());
            one.is_same_as(&other)
        };
        assert!(same("http://Old:4161/", "old:4161"));
        assert!(!same("old:4161", "old:4261"));
    }
}
