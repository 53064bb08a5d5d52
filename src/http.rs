//! The HTTP interface: upstream's endpoints with upstream's answers, and our own beside them.

mod admin;
mod answer;
pub mod body;
mod chunks;
mod client;
pub(crate) mod error;
mod gate;
mod head;
mod log_level;
pub(crate) mod long_answers;
mod lookup;
mod pages;
mod pprof;
mod query;
mod read;
mod routes;
mod status;

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use raftlookupd_raft::accept::accept;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::context::Context;
use crate::upstream_log;
use answer::Answer;
use client::Client;
use error::HttpError;
use gate::Gate;
use log_level::LONGEST_VALUE;
use query::unescape_path;
use routes::{Asked, Found};

/// A request's head has to arrive within this time; an idle connection is closed after it too.
const HEAD_DEADLINE: Duration = Duration::from_secs(120);

/// Bodies are ignored, as upstream does, but not without end.
const LONGEST_BODY: usize = 1024 * 1024;

/// A body that has not arrived by then is not waited for.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Probes and scrapers ask for these every few seconds.
const ASKED_ALL_THE_TIME: [&str; 2] = ["/cluster/status", "/metrics"];

/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// What is still being answered when the member stops gets this long.
const STOPPING: Duration = Duration::from_millis(500);

/// Serves HTTP until `stop` becomes true and what was asked before is answered.
pub(crate) async fn serve(
    listener: TcpListener,
    context: Arc<Context>,
    stop: watch::Receiver<bool>,
) {
    let slots = context.http_slots.clone();
    let stopping = stop.clone();
    accept(
        "HTTP",
        listener,
        &slots,
        stop,
        |stream, remote, admission| {
            let (context, stop) = (context.clone(), stopping.clone());
            tokio::spawn(async move {
                serve_connection(stream, remote, context, stop).await;
                drop(admission);
            });
        },
    )
    .await;
}

async fn serve_connection(
    stream: TcpStream,
    remote: SocketAddr,
    context: Arc<Context>,
    mut stop: watch::Receiver<bool>,
) {
    let stream = Arc::new(stream);
    let client = Client::new(&stream);
    let service = service_fn(move |request| {
        Box::pin(respond(context.clone(), client.clone(), remote, request))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        // As Go's server: a client that has said all may still want the answer.
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

async fn respond(
    context: Arc<Context>,
    client: Client,
    remote: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    // Read to its end, so that the connection can be used again.
    let body = read_body(Limited::new(body, LONGEST_BODY));
    let answer = match tokio::time::timeout(BODY_DEADLINE, body).await {
        Err(_) => HttpError::BodyTooSlow.into(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => HttpError::BodyTooLarge.into(),
        Ok(Err(_)) => HttpError::InvalidRequest.into(),
        Ok(Ok(body)) => answer(&context, &client, &head.method, &head.uri, &body).await,
    };
    // nsqlookupd logs every request, and people look for them there.
    context.metrics.request(answer.endpoint(), answer.status());
    let is_detail = ASKED_ALL_THE_TIME.contains(&head.uri.path());
    let request = (&head.method, &head.uri);
    upstream_log::answered(
        is_detail,
        request,
        answer.status(),
        remote,
        started.elapsed(),
    );
    Ok(answer.into_response())
}

/// Reads a body to its end, and keeps as much of its beginning as shows whether it is a value.
async fn read_body(mut body: Limited<Incoming>) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            let room = LONGEST_VALUE + 1 - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(kept)
}

async fn answer(
    context: &Context,
    client: &Client,
    method: &Method,
    uri: &axum::http::Uri,
    body: &[u8],
) -> Answer {
    let path = match unescape_path(uri.path()) {
        Ok(path) => path,
        Err(error) => return error.into(),
    };
    match routes::find(method, &path) {
        Found::Endpoint(endpoint) => {
            let asked = Asked {
                client,
                method,
                query: uri.query().unwrap_or_default(),
                body,
            };
            let answer = endpoint.answer(context, asked).await;
            answer
                .unwrap_or_else(Answer::from)
                .of_endpoint(endpoint.path())
        }
        Found::Options(allow) => Answer::options(allow),
        Found::OtherMethod(allow) => HttpError::MethodNotAllowed(allow).into(),
        Found::Redirect(path) => Answer::redirect(method, &path, uri.query()),
        Found::Nothing => HttpError::NotFound.into(),
    }
}
