//! The socket side of the peer interface: bounded connections, deadlines, and an end.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::accept::{Slots, accept};
use crate::node::peer_server::PeerServer;
use crate::node::{read_answers, write_answers};
use crate::peer::frames::{FIRST_BYTE, Magic};
use crate::peer::{read_lane, write_lane};

/// A request's head has to arrive within this time; an idle connection is closed after it too.
/// Longer than a peer keeps an idle one.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// Body and answer. The slowest answer is that to the last piece of a snapshot.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// Serves the peer interface until `stop` becomes true; open connections are broken then, for
/// whoever keeps one must not go on talking to a member that is gone.
pub(crate) async fn serve(
    listener: TcpListener,
    most_connections: usize,
    server: Arc<PeerServer>,
    stop: watch::Receiver<bool>,
) {
    let stopping = stop.clone();
    let router = server.clone().router();
    accept(
        "PEERS",
        listener,
        &Slots::new(most_connections),
        stop,
        |stream, _, admission| {
            let (server, router, mut stop) = (server.clone(), router.clone(), stopping.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = serve_connection(stream, &server, router) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
                drop(admission);
            });
        },
    )
    .await;
}

async fn serve_connection(stream: TcpStream, server: &PeerServer, router: Router) {
    let mut first = [0];
    let peeked = tokio::time::timeout(HEAD_DEADLINE, stream.peek(&mut first)).await;
    let served = match peeked {
        Ok(Ok(1)) if first[0] == FIRST_BYTE => serve_frames(stream, server).await,
        Ok(Ok(1)) => return serve_http(stream, router).await,
        Ok(Err(error)) => Err(error),
        // Nothing was said.
        Ok(Ok(_)) | Err(_) => return,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a peer's questions");
    }
}

async fn serve_frames(mut stream: TcpStream, server: &PeerServer) -> io::Result<()> {
    let mut magic: Magic = Magic::default();
    tokio::time::timeout(HEAD_DEADLINE, stream.read_exact(&mut magic)).await??;
    match magic {
        read_lane::MAGIC => read_answers::serve(stream, server).await,
        write_lane::MAGIC => write_answers::serve(stream, server).await,
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn serve_http(stream: TcpStream, router: Router) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: axum::http::Request<Incoming>| {
        let answer = router.call(request);
        async move {
            let answer = tokio::time::timeout(REQUEST_DEADLINE, answer).await;
            let answer = answer.unwrap_or_else(|_| Ok(StatusCode::REQUEST_TIMEOUT.into_response()));
            Ok::<Response, Infallible>(answer.unwrap_or_else(|never| match never {}))
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "peer connection");
    }
}
