//! Serves HTTP: nsqlookupd's endpoints with nsqlookupd's answers, and our own beside them.
//!
//! In reading order:
//! - `connection` serves one client: its requests, its end, and what happens when the member stops.
//! - `limits` bounds the body of a request in size and time.
//! - `router` maps paths and methods to `handlers`, and answers what has none.
//! - `arguments` reads the query by Go's rules; `read` gives a handler a registry that is as
//!   fresh as the client wants it.
//! - `context` is what all requests share; `answer` and `error` are what handlers return.
//! - `body` builds short answers under one read of the registry. `pages` builds long ones from
//!   many, and `long_answers` bounds their memory.

mod answer;
mod arguments;
pub mod body;
mod connection;
pub(crate) mod context;
pub(crate) mod error;
mod handlers;
mod limits;
pub(crate) mod long_answers;
mod pages;
mod read;
mod router;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::accept::accept;
use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::http::Request;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower::Service;

use crate::http::context::Context;
use crate::upstream_log;
use connection::client::Client;
use limits::BodyLimit;
use router::Paths;

/// Probes and scrapers request these every few seconds, so their log lines are at debug.
const POLLED: [&str; 2] = ["/cluster/status", "/metrics"];

/// Serves HTTP until `stop` becomes true and the requests that came before it are answered.
pub(crate) async fn serve(
    listener: TcpListener,
    context: Arc<Context>,
    stop: watch::Receiver<bool>,
) {
    let slots = context.http_slots.clone();
    let interface = Interface::new(context);
    let stopping = stop.clone();
    accept(
        "HTTP",
        listener,
        &slots,
        stop,
        |stream, remote, admission| {
            let (interface, stop) = (interface.clone(), stopping.clone());
            tokio::spawn(async move {
                connection::serve(stream, remote, interface, stop).await;
                drop(admission);
            });
        },
    )
    .await;
}

/// The HTTP interface of one member, without sockets.
#[derive(Debug, Clone)]
struct Interface {
    context: Arc<Context>,
    service: BodyLimit<Router>,
    paths: Arc<Paths>,
}

impl Interface {
    fn new(context: Arc<Context>) -> Interface {
        let (router, paths) = router::router(context.clone());
        Interface {
            context,
            service: BodyLimit::new(router),
            paths,
        }
    }

    /// Answers a request, counts it, and logs it as nsqlookupd does.
    async fn answer<B>(mut self, mut request: Request<B>, client: Client) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let started = Instant::now();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let remote: SocketAddr = client.remote();
        request.extensions_mut().insert(client);
        let Ok(response) = self.service.call(request).await;
        let (path, status) = (uri.path(), response.status().as_u16());
        self.context.metrics.request(self.paths.label(path), status);
        upstream_log::answered(
            POLLED.contains(&path),
            (&method, &uri),
            status,
            remote,
            started.elapsed(),
        );
        response
    }
}

#[cfg(test)]
mod tests;
