//! Binds the three interfaces of a member before anything on disk is touched.

use std::net::{SocketAddr, TcpListener};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::listen;

/// The listeners of a member.
pub(super) struct Listeners {
    pub(super) tcp: TcpListener,
    pub(super) http: TcpListener,
    pub(super) peers: TcpListener,
}

impl Listeners {
    pub(super) fn bind(config: &Config) -> Result<Listeners> {
        Ok(Listeners {
            tcp: listen::bind(&config.tcp_address)?,
            http: listen::bind(&config.http_address)?,
            peers: listen::bind(&config.peer_address)?,
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
