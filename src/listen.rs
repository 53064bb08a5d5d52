//! Binds the addresses that a member listens on, as Go does.

use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::split_host_port;
use crate::error::{Error, Result};

/// After a restart all nsqds connect at once. The system caps this at its own limit.
const BACKLOG: i32 = 4096;

/// Binds `host:port` as Go does: no host, or `0.0.0.0`, means every address of either family.
///
/// # Errors
/// [`Error::Listen`], in nsqlookupd's words.
pub(crate) fn bind(address: &str) -> Result<TcpListener> {
    let failed = |reason: String| Error::Listen {
        address: address.to_string(),
        reason,
    };
    let (host, port) = split_host_port(address).map_err(|reason| failed(reason.into()))?;
    let port: u16 = port
        .parse()
        .map_err(|_| failed(format!("invalid port {port:?}, must be 0 to 65535")))?;
    bind_host(host, port).map_err(|error| failed(reason(&error)))
}

/// Hands a listener to the async runtime.
pub(crate) fn into_tokio(listener: TcpListener) -> Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::from_std(listener).map_err(|source| Error::System {
        action: "watch a listener",
        source,
    })
}

fn bind_host(host: &str, port: u16) -> IoResult<TcpListener> {
    if matches!(host, "" | "0.0.0.0" | "::") {
        return match bind_address((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if !is_final(&error) => {
                // A host without IPv6.
                bind_address((Ipv4Addr::UNSPECIFIED, port).into())
            }
            bound => bound,
        };
    }
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    // Go prefers IPv4 where a name has both.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut failure = IoError::new(ErrorKind::NotFound, "no such host");
    for address in addresses {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_address(address: SocketAddr) -> IoResult<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // Connections of the previous process may still be closing.
    socket.set_reuse_address(true)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn is_final(error: &IoError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::PermissionDenied
    )
}

/// The system's reason, as Go spells it: `address already in use`.
fn reason(error: &IoError) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_either_family() {
        let listener = bind(":0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let taken = bind(&format!("0.0.0.0:{port}")).unwrap_err().to_string();
        assert_eq!(
            taken,
            format!(
                "failed to instantiate nsqlookupd - listen (0.0.0.0:{port}) failed - \
                 address already in use"
            )
        );
    }

    #[test]
    fn one_address() {
        let listener = bind("127.0.0.1:0").unwrap();
        assert!(listener.local_addr().unwrap().ip().is_loopback());
    }

    #[test]
    fn bad_addresses() {
        for address in [
            "",
            "nonsense",
            "127.0.0.1",
            "127.0.0.1:99999",
            "127.0.0.1:http-no",
            "192.0.2.1:0",
        ] {
            let said = bind(address).unwrap_err().to_string();
            assert!(
                said.contains(&format!("listen ({address}) failed - ")),
                "{said}"
            );
        }
    }
}
