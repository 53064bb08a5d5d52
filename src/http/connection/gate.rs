//! A connection as hyper sees it: only clean heads come through.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::chunks::Chunks;
use super::head::{BodyLength, HeadReader, Malformed, Progress};

/// Read from the socket at once.
const READ: usize = 8 * 1024;

/// Who reads nothing of an answer for so long does not get the rest.
const STALLED: Duration = Duration::from_secs(60);

/// Empty lines behind the body of a POST, as of old browsers, are left out up to this many bytes.
const BEHIND_POST: u8 = 4;

/// A client's connection. Reading ends at the first malformed head; see
/// [`malformed`](Gate::malformed).
#[derive(Debug)]
pub(super) struct Gate {
    stream: Arc<TcpStream>,
    /// What has arrived and is not looked at yet. One head at most, and what came with it.
    arrived: Vec<u8>,
    /// A clean head on its way to the reader.
    clean: Bytes,
    expected: Expected,
    /// What is left out in front of the next head if it is CR or LF.
    left_out: u8,
    malformed: Option<Malformed>,
    /// Ends while nothing can be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Expected {
    Head(HeadReader),
    Body(u64),
    Chunks(Chunks),
}

impl Gate {
    pub(super) fn new(stream: Arc<TcpStream>) -> Self {
        Gate {
            stream,
            arrived: Vec::new(),
            clean: Bytes::new(),
            expected: Expected::Head(HeadReader::default()),
            left_out: 0,
            malformed: None,
            stalled: None,
        }
    }

    /// The connection, and why reading has ended before its end.
    pub(super) fn into_parts(self) -> (Arc<TcpStream>, Option<Malformed>) {
        (self.stream, self.malformed)
    }

    /// Gives the reader what has arrived for it; `false` if there is nothing yet.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        loop {
            if !self.clean.is_empty() {
                let some = self.clean.len().min(buffer.remaining());
                buffer.put_slice(&self.clean.split_to(some));
                return true;
            }
            self.leave_out();
            if self.arrived.is_empty() || self.malformed.is_some() {
                return false;
            }
            let some = self.arrived.len().min(buffer.remaining());
            let body = match &mut self.expected {
                Expected::Head(reader) => match reader.look(&self.arrived) {
                    Progress::Incomplete => return false,
                    Progress::Malformed(malformed) => {
                        self.malformed = Some(malformed);
                        return false;
                    }
                    Progress::Head(head) => {
                        self.arrived.drain(..head.length);
                        self.left_out = if head.is_post { BEHIND_POST } else { 0 };
                        self.clean = head.clean.into();
                        self.expected = match head.body {
                            BodyLength::Bytes(length) => Expected::Body(length),
                            BodyLength::Chunked => Expected::Chunks(Chunks::default()),
                        };
                        continue;
                    }
                },
                Expected::Body(left) => {
                    let some = some.min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= some as u64;
                    some
                }
                Expected::Chunks(chunks) => chunks.take(&self.arrived[..some]),
            };
            buffer.put_slice(&self.arrived[..body]);
            self.arrived.drain(..body);
            if self.body_is_over() {
                self.expected = Expected::Head(HeadReader::default());
            }
            if self.arrived.is_empty() && self.arrived.capacity() > READ {
                // A connection that idles should not hold what one long head needed.
                self.arrived = Vec::new();
            }
            if body > 0 {
                return true;
            }
        }
    }

    fn leave_out(&mut self) {
        if !matches!(self.expected, Expected::Head(_)) {
            return;
        }
        while self.left_out > 0 && matches!(self.arrived.first(), Some(b'\r' | b'\n')) {
            self.arrived.remove(0);
            self.left_out -= 1;
        }
        if !self.arrived.is_empty() {
            self.left_out = 0;
        }
    }

    /// The same, unless it has been pending for too long.
    fn unless_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let sleep = || Box::pin(tokio::time::sleep(STALLED));
        let stalled = self.stalled.get_or_insert_with(sleep);
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn body_is_over(&self) -> bool {
        match &self.expected {
            Expected::Head(_) => false,
            Expected::Body(left) => *left == 0,
            Expected::Chunks(chunks) => chunks.is_over(),
        }
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if gate.give(buffer) || gate.malformed.is_some() {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; READ];
            ready!(gate.stream.poll_read_ready(context))?;
            match gate.stream.try_read(&mut bytes) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => gate.arrived.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let written = poll_write(&gate.stream, context, |stream| stream.try_write(bytes));
        gate.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let gate = self.get_mut();
        let write = |stream: &TcpStream| stream.try_write_vectored(slices);
        let written = poll_write(&gate.stream, context, write);
        gate.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(Shutdown::Write))
    }
}

fn poll_write(
    stream: &TcpStream,
    context: &mut Context<'_>,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match write(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// The clock runs ahead whenever nothing else can be done.
    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        let reader = accepted.unwrap().0;
        let mut gate = Gate::new(Arc::new(dialled.unwrap()));
        let begun = tokio::time::Instant::now();
        let more_than_any_buffer = vec![0; 64 * 1024 * 1024];
        let error = gate.write_all(&more_than_any_buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= STALLED);
        drop(reader);
    }
}
