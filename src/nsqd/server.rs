//! Accepts V1 connections and runs a task for each.

use std::sync::Arc;
use std::time::Duration;

use crate::accept::accept;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::nsqd::connection;
use crate::nsqd::interface::Interface;

/// Detects within a minute that an nsqd's machine has vanished: nothing is sent that could fail, and
/// a missing PING only hides the nsqd.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Serves V1 until `stop` becomes true and all connections are closed.
pub(crate) async fn serve(
    listener: TcpListener,
    interface: Arc<Interface>,
    stop: watch::Receiver<bool>,
) {
    let slots = interface.slots.clone();
    let stopping = stop.clone();
    accept(
        "TCP",
        listener,
        &slots,
        stop,
        |stream, remote, admission| {
            keep_alive(&stream);
            let (interface, stop) = (interface.clone(), stopping.clone());
            tokio::spawn(async move {
                connection::serve(stream, remote, interface, stop).await;
                drop(admission);
            });
        },
    )
    .await;
}

fn keep_alive(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE) {
        tracing::debug!(%error, "cannot enable TCP keep-alive");
    }
}
