//! Serves V1 and HTTP until told to stop.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::listeners::address;
use crate::error::Result;
use crate::http::context::Context;
use crate::nsqd::interface::Interface;
use crate::nsqd::server;
use crate::{http, listen};

/// How long connections may take to end. nsqds notice at once; this is for a client that does not
/// read.
const DRAIN: Duration = Duration::from_millis(400);

/// The tasks that serve V1 and HTTP, and the switch that ends them.
pub(super) struct Serving {
    addresses: [(&'static str, SocketAddr); 2],
    closing: watch::Sender<bool>,
    tcp: JoinHandle<()>,
    http: JoinHandle<()>,
}

impl Serving {
    pub(super) fn start(
        tcp: (TcpListener, Interface),
        http: (TcpListener, Context),
    ) -> Result<Serving> {
        let (closing, closed) = watch::channel(false);
        let addresses = [("TCP", address(&tcp.0)?), ("HTTP", address(&http.0)?)];
        for (what, address) in addresses {
            tracing::info!("{what}: listening on {address}");
        }
        let (interface, context) = (Arc::new(tcp.1), Arc::new(http.1));
        let (tcp, http) = (listen::into_tokio(tcp.0)?, listen::into_tokio(http.0)?);
        let tcp = server::serve(tcp, interface, closed.clone());
        let http = http::serve(http, context, closed);
        Ok(Serving {
            addresses,
            closing,
            tcp: tokio::spawn(tcp),
            http: tokio::spawn(http),
        })
    }

    /// Resolves when one of the two has ended by itself, which it never should.
    pub(super) async fn ended(&mut self) -> &'static str {
        tokio::select! {
            _ = &mut self.tcp => "the V1 server",
            _ = &mut self.http => "the HTTP server",
        }
    }

    /// Ends both, and their connections.
    pub(super) async fn stop(self) {
        for (what, address) in self.addresses {
            tracing::info!("{what}: closing {address}");
        }
        self.closing.send_replace(true);
        let both = async {
            for task in [self.tcp, self.http] {
                // A task that `ended` has polled to its end must not be polled again.
                if !task.is_finished() {
                    let _ = task.await;
                }
            }
        };
        if tokio::time::timeout(DRAIN, both).await.is_err() {
            tracing::debug!("some connections did not end in time");
        }
    }
}
