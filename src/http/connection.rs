//! Serves one connection: hyper reads its requests and writes the answers of the interface.

pub(super) mod client;
mod fragments;
mod stream;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::http::Interface;
use client::Client;
use stream::Stream;

/// A request's head has to arrive within this time; an idle connection is closed after it too.
const HEAD_DEADLINE: Duration = Duration::from_secs(120);

/// Longer heads are refused. nsqlookupd allows a megabyte, but no client sends as much.
const LONGEST_HEAD: usize = 64 * 1024;

/// Requests that are being answered when the member stops get this long.
const STOPPING: Duration = Duration::from_millis(500);

/// Serves a connection until either side ends it, or `stop` becomes true.
pub(super) async fn serve(
    socket: TcpStream,
    remote: SocketAddr,
    interface: Interface,
    mut stop: watch::Receiver<bool>,
) {
    let socket = Arc::new(socket);
    let client = Client::new(&socket, remote);
    let service = service_fn(move |request| {
        let answer = interface.clone().answer(request, client.clone());
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(LONGEST_HEAD)
        // As in Go: a client that has closed its sending side may still want the answer.
        .half_close(true)
        // Go's spelling of names, for clients that compare them byte by byte.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(Stream::new(socket)), service);
    let mut connection = pin!(connection);
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let mut ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopped => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        ended = tokio::time::timeout(STOPPING, connection).await.ok();
    }
    if let Some(Err(error)) = ended {
        tracing::debug!(%remote, %error, "HTTP connection");
    }
}
