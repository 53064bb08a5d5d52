//! The V1 interface: one task for each nsqd that connects.

use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::accept::accept;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::context::Context;
use crate::nsqd::connection;

/// An nsqd whose machine has vanished is noticed after a minute: it sends nothing that could
/// fail, and a PING that does not come only hides it.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Serves V1 until `stop` becomes true and all connections are closed.
pub(crate) async fn serve(
    listener: TcpListener,
    context: Arc<Context>,
    stop: watch::Receiver<bool>,
) {
    let slots = context.tcp_slots.clone();
    let stopping = stop.clone();
    accept(
        "TCP",
        listener,
        &slots,
        stop,
        |stream, remote, admission| {
            keep_alive(&stream);
            let (context, stop) = (context.clone(), stopping.clone());
            tokio::spawn(async move {
                connection::serve(stream, remote, context, stop).await;
                drop(admission);
            });
        },
    )
    .await;
}

fn keep_alive(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE) {
        tracing::debug!(%error, "no TCP keep-alive");
    }
}
