//! A client's socket, as hyper uses it: with a deadline for writes, and an end that lets the last
//! answer arrive.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::fragments::Fragments;

/// Bytes read at once. Hardly any request is longer.
const READ: usize = 4 * 1024;

/// A client that reads nothing of its answer for this long does not get the rest.
const STALLED: Duration = Duration::from_secs(60);

/// How long the client may take to close its side after we have closed ours.
const LINGER: Duration = Duration::from_millis(500);

/// The socket is shared with [`Client`](super::client::Client), which watches it.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Arc<TcpStream>,
    fragments: Fragments,
    /// Runs while nothing can be written.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs from the moment that our side is closed.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(super) fn new(socket: Arc<TcpStream>) -> Self {
        Stream {
            socket,
            fragments: Fragments::default(),
            stalled: None,
            closing: None,
        }
    }

    fn poll_write_with<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while self.socket.poll_write_ready(context)?.is_ready() {
            match write(&self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => {
                    self.stalled = None;
                    return Poll::Ready(written);
                }
            }
        }
        let sleep = || Box::pin(tokio::time::sleep(STALLED));
        let stalled = self.stalled.get_or_insert_with(sleep);
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

/// Reads once. A read that does not fill its buffer has emptied the socket, so it ends the
/// socket's readiness as well, which saves a second read that would find nothing.
fn read(socket: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    let result = socket.try_io(Interest::READABLE, || {
        let borrowed = SockRef::from(socket);
        let mut socket: &Socket = &borrowed;
        count = socket.read(bytes)?;
        match count {
            some if 0 < some && some < bytes.len() => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    });
    match result {
        Err(error) if count == 0 => Err(error),
        _ => Ok(count),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            let room = buffer.remaining().min(READ);
            let bytes = buffer.initialize_unfilled_to(room);
            match read(&self.socket, bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    self.fragments.refuse(&mut bytes[..count]);
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |socket: &TcpStream| socket.try_write(bytes);
        self.get_mut().poll_write_with(context, write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = |socket: &TcpStream| socket.try_write_vectored(slices);
        self.get_mut().poll_write_with(context, write)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closes our side, and reads what the client still sends until it closes its own. A socket
    /// that is closed with unread bytes in it, such as the rest of a body that was refused, is
    /// reset, and the client may lose its answer.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if stream.closing.is_none() {
            SockRef::from(&*stream.socket).shutdown(Shutdown::Write)?;
        }
        let sleep = || Box::pin(tokio::time::sleep(LINGER));
        let closing = stream.closing.get_or_insert_with(sleep);
        let mut unread = [0; READ];
        while closing.as_mut().poll(context).is_pending() {
            ready!(stream.socket.poll_read_ready(context))?;
            match stream.socket.try_read(&mut unread) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    async fn connected() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        (Stream::new(Arc::new(accepted.unwrap().0)), dialled.unwrap())
    }

    /// The clock runs ahead whenever nothing else can be done.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (mut stream, client) = connected().await;
        let begun = Instant::now();
        let more_than_any_buffer = vec![0; 64 * 1024 * 1024];
        let error = stream.write_all(&more_than_any_buffer).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(begun.elapsed() >= STALLED);
        drop(client);
    }

    #[tokio::test]
    async fn bytes_arrive_whatever_their_number() {
        let (mut stream, mut client) = connected().await;
        for length in [1, READ - 1, READ, READ + 1, 10 * READ] {
            let sent: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut received = vec![0; length];
            let (written, read) =
                tokio::join!(client.write_all(&sent), stream.read_exact(&mut received));
            written.unwrap();
            read.unwrap();
            assert_eq!(sent, received, "{length}");
        }
        client.write_all(b"x").await.unwrap();
        drop(client);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"x");
    }

    #[tokio::test]
    async fn the_last_answer_arrives_though_not_all_was_read() {
        let (mut stream, mut client) = connected().await;
        client.write_all(&[b'x'; 100_000]).await.unwrap();
        stream.write_all(b"refused").await.unwrap();
        let closed = tokio::spawn(async move { stream.shutdown().await });
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"refused");
        drop(client);
        closed.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_close_is_not_waited_for() {
        let (mut stream, mut client) = connected().await;
        let begun = Instant::now();
        let sending = async {
            loop {
                client.write_all(b"more").await.unwrap();
                tokio::time::sleep(LINGER / 10).await;
            }
        };
        tokio::select! {
            closed = stream.shutdown() => closed.unwrap(),
            () = sending => {}
        }
        assert!(begun.elapsed() >= LINGER && begun.elapsed() < 2 * LINGER);
    }
}
