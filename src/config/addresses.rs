//! Splits, joins and checks addresses of the form `host:port`.

use std::net::Ipv6Addr;

/// Splits at the last colon, and removes the brackets around an IPv6 host.
pub(crate) fn split_host_port(address: &str) -> Result<(&str, &str), &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("missing port in address")?;
    match host.strip_prefix('[') {
        Some(inner) => match inner.strip_suffix(']') {
            Some(inner) => Ok((inner, port)),
            None => Err("missing ']' in address"),
        },
        None if host.contains(':') => Err("too many colons in address"),
        None => Ok((host, port)),
    }
}

/// Checks that an address can be dialled.
///
/// # Errors
/// What would be right.
pub(crate) fn check_host_port(address: &str) -> Result<(), String> {
    let right = "an address must be host:port, an IPv6 host in brackets";
    let (host, port) = split_host_port(address).map_err(|_| right)?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '=' | '/');
    if host.is_empty() || host.contains(bad) {
        return Err(right.into());
    }
    if host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
        return Err(right.into());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("the port must be 1 to 65535, not {port:?}")),
    }
}

/// The reverse of [`split_host_port`].
pub(crate) fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (address, parts) in [
            ("0.0.0.0:4160", Ok(("0.0.0.0", "4160"))),
            (":4160", Ok(("", "4160"))),
            ("[::1]:4160", Ok(("::1", "4160"))),
            ("host:", Ok(("host", ""))),
            ("nonsense", Err("missing port in address")),
            ("[::1:4160", Err("missing ']' in address")),
            ("::1:4160", Err("too many colons in address")),
        ] {
            assert_eq!(split_host_port(address), parts, "{address}");
        }
        assert_eq!(join_host_port("h", 1), "h:1");
        assert_eq!(join_host_port("::1", 1), "[::1]:1");
    }

    #[test]
    fn addresses_to_dial() {
        for address in [
            "h:1",
            "10.0.0.1:65535",
            "[fe80::1]:4162",
            "a.b-c.example:4162",
        ] {
            assert_eq!(check_host_port(address), Ok(()), "{address}");
        }
        for address in [
            "",
            "h",
            "h:",
            ":1",
            "h:0",
            "h:x",
            "h:65536",
            "::1:1",
            "[h:1]:1",
            "http://h:1",
            "a=h:1",
        ] {
            assert!(check_host_port(address).is_err(), "{address}");
        }
    }
}
