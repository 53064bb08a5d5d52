//! Watches the client of a request while its answer is being made.
//!
//! Hyper does not read from the connection during that time: a client may close its sending side
//! after the request and still read the answer.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use crate::http::error::HttpError;

/// Pause before the next check after the socket became ready for another reason, such as the next
/// request.
const INTERVAL: Duration = Duration::from_millis(250);

/// The connection that a request came from. Each request carries it as an extension.
#[derive(Debug, Clone)]
pub(in crate::http) struct Client {
    stream: Weak<TcpStream>,
    remote: SocketAddr,
}

impl Client {
    pub(super) fn new(stream: &Arc<TcpStream>, remote: SocketAddr) -> Self {
        Client {
            stream: Arc::downgrade(stream),
            remote,
        }
    }

    pub(in crate::http) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Resolves when the client has closed its sending side. Most clients have left then, but some
    /// still wait for the answer.
    pub(in crate::http) async fn closed(&self) {
        self.until(Interest::READABLE, Ready::is_read_closed).await;
    }

    /// Resolves when the connection is broken, so that no answer can reach the client.
    pub(in crate::http) async fn gone(&self) {
        self.until(Interest::WRITABLE, Ready::is_write_closed).await;
    }

    async fn until(&self, interest: Interest, condition: fn(Ready) -> bool) {
        while let Some(stream) = self.stream.upgrade() {
            match stream.ready(interest).await {
                Ok(ready) if !condition(ready) => {}
                Ok(_) | Err(_) => return,
            }
            drop(stream);
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// A client on the other end of a connection.
    #[cfg(test)]
    pub(in crate::http) async fn connected() -> (Client, Arc<TcpStream>, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        let (stream, remote) = accepted.unwrap();
        let stream = Arc::new(stream);
        (Client::new(&stream, remote), stream, dialled.unwrap())
    }
}

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        let client = parts.extensions.get::<Client>();
        client.cloned().ok_or(HttpError::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::task::Poll;
    use tokio::io::AsyncWriteExt;

    const WATCHDOG: Duration = Duration::from_secs(20);

    async fn watched<T>(test: impl Future<Output = T>) -> T {
        tokio::time::timeout(WATCHDOG, test).await.unwrap()
    }

    async fn is_pending(future: impl Future<Output = ()>) -> bool {
        let mut future = Box::pin(future);
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending()))
            .await
    }

    #[tokio::test]
    async fn a_client_that_closes_is_noticed_behind_its_next_request() {
        let (client, server, mut peer) = Client::connected().await;
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        watched(server.readable()).await.unwrap();
        assert!(is_pending(client.closed()).await, "it is still there");
        peer.shutdown().await.unwrap();
        watched(client.closed()).await;
        assert!(is_pending(client.gone()).await, "it may still read");
    }

    #[tokio::test]
    async fn a_broken_connection_is_noticed() {
        let (client, _server, peer) = Client::connected().await;
        // Closing resets the connection.
        SockRef::from(&peer)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(peer);
        watched(client.gone()).await;
        watched(client.closed()).await;
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_has_no_client() {
        let (client, server, _peer) = Client::connected().await;
        drop(server);
        watched(client.closed()).await;
        watched(client.gone()).await;
    }
}
