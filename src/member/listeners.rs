//! Binds the three interfaces of a member before anything on disk is touched.

use std::net::{SocketAddr, TcpListener};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::listen;
use raftlookupd_raft::formed_alone;

/// The listeners of a member.
pub(super) struct Listeners {
    pub(super) tcp: TcpListener,
    pub(super) http: TcpListener,
    /// `None` for a cluster of one that is not to become larger: nsqlookupds that share a host have
    /// no such port, so its replacement must not take one.
    pub(super) peers: Option<TcpListener>,
}

/// Where members listen for each other by default.
const PEERS: &str = "0.0.0.0:4162";

impl Listeners {
    pub(super) fn bind(config: &Config) -> Result<Listeners> {
        Ok(Listeners {
            tcp: listen::bind(&config.tcp_address)?,
            http: listen::bind(&config.http_address)?,
            peers: match (&config.peer_address, &config.initial_cluster) {
                (Some(address), _) => Some(listen::bind(address)?),
                (None, None) if formed_alone(&config.data_path).map_err(Error::Start)? => None,
                (None, _) => Some(listen::bind(PEERS)?),
            },
        })
    }
}

/// The address that a listener has; its port may have been chosen by the system.
pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|source| Error::System {
        action: "ask for the address of a listener",
        source,
    })
}
