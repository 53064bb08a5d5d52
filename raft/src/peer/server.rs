//! Answers peers: one task for each connection, one request after the other.
//!
//! What a connection can make this member hold is bounded: an introduction of a kilobyte at
//! first, then one frame and its response; and so is the number of connections (`seats`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::peer::frames::{Frames, set_number, to_frame};
use crate::peer::handshake::{
    self, DEADLINE, HandshakeError, Introduction, Party, Refusal, Sender, Welcome,
};
use crate::peer::lineage::Known;
use crate::peer::message::{Request, Response};
use crate::peer::rate_limit::RateLimit;
use crate::peer::seats::{Row, Seat, Seats};

/// A connection on which nothing is asked for so long is closed; a request that takes so long to
/// arrive, to be answered, or to have its answer read is given up. Longer than a peer keeps an
/// idle connection, and than the slowest answer takes: that to the last piece of a snapshot.
const PATIENCE: Duration = Duration::from_secs(60);

/// After an error of accept, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// What a member answers its peers.
pub(crate) trait Service: Send + Sync + 'static {
    /// How this member introduces itself.
    fn introduce(&self) -> Party;

    /// Whether a connection is accepted, and as whose.
    ///
    /// # Errors
    /// Why it is not.
    fn admit(
        &self,
        introduction: &Introduction,
    ) -> impl Future<Output = Result<Sender, Refusal>> + Send;

    /// What this member remembers of a member that has dialled.
    fn known(&self, introduction: &Introduction) -> Option<Known>;

    /// Whether the sender still speaks for its member. Its connection is closed if not.
    fn is_current(&self, sender: Sender) -> bool;

    /// Answers a request.
    fn answer(&self, from: Sender, request: Request) -> impl Future<Output = Response> + Send;
}

/// The peer port of one member.
pub(crate) struct Server<S> {
    service: S,
    refusals: RateLimit,
}

impl<S: Service> Server<S> {
    /// A server of what the service answers.
    pub(crate) fn new(service: S) -> Arc<Self> {
        Arc::new(Server {
            service,
            refusals: RateLimit::default(),
        })
    }

    /// What answers.
    pub(crate) fn service(&self) -> &S {
        &self.service
    }

    /// Serves the peer port until the member stops. Open connections are closed then, so that no peer
    /// goes on talking to a member that is gone.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        guests: usize,
        stop: CancellationToken,
    ) {
        let seats = Seats::new(guests);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, remote)) => {
                    // A listener for both families shows IPv4 as ::ffff:10.0.0.1.
                    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%remote, %error, "no TCP_NODELAY");
                    }
                    let (server, seat) = (self.clone(), seats.enter());
                    connections.spawn(async move {
                        if let Err(error) = server.serve_connection(stream, seat, remote).await {
                            tracing::debug!(%remote, %error, "peer connection ended");
                        }
                    });
                }
                Err(error) => {
                    if self.refusals.allows("accept", Instant::now()) {
                        tracing::error!(%error, "PEERS: cannot accept connections");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection until it ends, or a newer one needs its seat.
    ///
    /// # Errors
    /// How it ended.
    pub(crate) async fn serve_connection(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        mut seat: Seat,
        remote: SocketAddr,
    ) -> io::Result<()> {
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(DEADLINE, self.shake_hands(&mut stream, remote)) => shaken,
            () = seat.evicted() => return Err(evicted()),
        };
        let Some((introduction, sender)) = shaken?? else {
            return Ok(());
        };
        if let Sender::Member {
            id, known: true, ..
        } = sender
        {
            seat.move_to(Row::Member(id, introduction.class));
        }
        let longest = introduction.class.longest_frame();
        let frames = Frames::new(stream, longest);
        tokio::select! {
            biased;
            ended = self.answer_all(frames, sender, longest) => ended,
            () = seat.evicted() => Err(evicted()),
        }
    }

    /// `None` if the connection was not accepted.
    async fn shake_hands(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send),
        remote: SocketAddr,
    ) -> io::Result<Option<(Introduction, Sender)>> {
        let introduction: Introduction = match handshake::receive(stream).await {
            Ok(introduction) => introduction,
            Err(HandshakeError::Io(error)) => return Err(error),
            Err(error) => {
                if let HandshakeError::OtherFormat(found) = error {
                    self.welcome(stream, None, Some(Refusal::OtherFormat { found }))
                        .await?;
                }
                // Not by port: that is another one for each connection.
                self.log_refusal(&remote.ip().to_string(), remote, &error.to_string());
                return Ok(None);
            }
        };
        let admitted = self.service.admit(&introduction).await;
        let known = self.service.known(&introduction);
        match admitted {
            Ok(sender) => {
                self.welcome(stream, known, None).await?;
                Ok(Some((introduction, sender)))
            }
            Err(refusal) => {
                if !refusal.is_passing() {
                    self.log_refusal(&introduction.from.name, remote, &refusal.to_string());
                }
                self.welcome(stream, known, Some(refusal)).await?;
                Ok(None)
            }
        }
    }

    async fn welcome(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        known: Option<Known>,
        refused: Option<Refusal>,
    ) -> io::Result<()> {
        let welcome = Welcome {
            from: self.service.introduce(),
            refused,
            known,
        };
        handshake::send(stream, &welcome).await
    }

    fn log_refusal(&self, peer: &str, remote: SocketAddr, reason: &str) {
        if self
            .refusals
            .allows(&format!("{peer} {reason}"), Instant::now())
        {
            let member = self.service.introduce().name;
            tracing::error!(member, peer, %remote, reason, "a connection to the peer port was refused");
        }
    }

    async fn answer_all(
        &self,
        mut frames: Frames<impl AsyncRead + AsyncWrite + Unpin + Send>,
        sender: Sender,
        longest: usize,
    ) -> io::Result<()> {
        loop {
            let (number, request) = tokio::time::timeout(PATIENCE, frames.receive()).await??;
            if !self.service.is_current(sender) {
                return Err(replaced());
            }
            let response = tokio::select! {
                biased;
                response = tokio::time::timeout(PATIENCE, self.service.answer(sender, request)) => response?,
                // The caller has given up, and dials again: many of them would pile up.
                error = frames.closed() => return Err(error),
            };
            let mut frame = to_frame(&response, longest)?;
            set_number(&mut frame, number);
            tokio::time::timeout(PATIENCE, frames.send(&frame)).await??;
        }
    }
}

fn replaced() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "another process speaks for the member by now",
    )
}

fn evicted() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "a newer connection needs the seat",
    )
}

#[cfg(test)]
mod tests;
