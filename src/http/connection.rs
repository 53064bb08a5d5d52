//! Serves one connection: hands its requests to the interface, and ends it.

mod chunks;
pub(super) mod client;
mod gate;
mod head;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::http::Interface;
use client::Client;
use gate::Gate;

/// A request's head has to arrive within this time; an idle connection is closed after it too.
const HEAD_DEADLINE: Duration = Duration::from_secs(120);

/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Requests that are being answered when the member stops get this long.
const STOPPING: Duration = Duration::from_millis(500);

/// Serves a connection until either side ends it, or `stop` becomes true.
pub(super) async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    interface: Interface,
    mut stop: watch::Receiver<bool>,
) {
    let stream = Arc::new(stream);
    let client = Client::new(&stream, remote);
    let service = service_fn(move |request| {
        let answer = interface.clone().answer(request, client.clone());
        Box::pin(async { Ok::<_, Infallible>(answer.await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        // As in Go: a client that has closed its sending side may still want the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(Gate::new(stream)), service);
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    // Everything but the end of the connection, since there may be one more thing to say.
    let mut ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(ended),
        () = stopped => None,
    };
    if ended.is_none() {
        Pin::new(&mut connection).graceful_shutdown();
        let rest = poll_fn(|context| connection.poll_without_shutdown(context));
        ended = tokio::time::timeout(STOPPING, rest).await.ok();
    }
    match ended {
        Some(Err(error)) => tracing::debug!(%remote, %error, "HTTP connection"),
        Some(Ok(())) => end(connection.into_parts().io.into_inner(), remote).await,
        None => {}
    }
}

/// Ends a connection, with an error for what hyper did not get to see.
async fn end(gate: Gate, remote: SocketAddr) {
    let (stream, malformed) = gate.into_parts();
    let farewell = async {
        if let Some(malformed) = malformed {
            tracing::debug!(%remote, %malformed, "HTTP request");
            write_all(&stream, malformed.answer().as_bytes()).await?;
        }
        SockRef::from(&*stream).shutdown(Shutdown::Write)?;
        // Closed with unread bytes in it, as of a body that is too long, the connection would be
        // reset, and the answer lost.
        let mut unread = [0; 4096];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut unread) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // However it ends, the connection is closed.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
