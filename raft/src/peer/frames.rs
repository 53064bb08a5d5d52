//! Sends and receives frames: length, number and encoded value of one request or response.
//!
//! A response has the number of its request. Responses come in the order of the requests, so a
//! request that its caller has given up on needs no more than that its response is skipped.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use raftlookupd_storage::encoding::{decode, encode_onto};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// The length of what follows, and the number.
const HEADER: usize = 8;

/// What a connection keeps in memory between two frames, whatever their length was.
const KEPT: usize = 16 * 1024;

/// One end of a connection whose handshake is over.
pub(crate) struct Frames<S> {
    stream: S,
    arrived: Vec<u8>,
    longest: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// A connection on which no longer frame is accepted than this.
    pub(crate) fn new(stream: S, longest: usize) -> Self {
        Frames {
            stream,
            arrived: Vec::with_capacity(1024),
            longest,
        }
    }

    /// Sends a frame. If this fails, or is dropped before it is ready, the connection is broken.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await
    }

    /// Receives the next frame. Dropped before it is ready, it has lost nothing.
    ///
    /// # Errors
    /// Those of reading; the end of the connection, a frame that is too long and one that
    /// cannot be decoded are errors too. The connection is broken then.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<(u32, T)> {
        loop {
            if let Some((number, end)) = self.first_frame()? {
                let body = self.arrived.get(HEADER..end).unwrap_or_default();
                let value = decode("a peer message", body).map_err(io::Error::other);
                self.remove(end);
                return Ok((number, value?));
            }
            self.fill().await?;
        }
    }

    /// Receives the response with this number, the last of those that are unread, and skips those
    /// before it. Dropped before it is ready, it has lost nothing, and `unread` says what is due.
    ///
    /// # Errors
    /// As [`receive`](Self::receive); a response that is not due is an error too.
    pub(crate) async fn receive_numbered<T: DeserializeOwned>(
        &mut self,
        wanted: u32,
        unread: &mut u32,
    ) -> io::Result<T> {
        loop {
            self.skip_arrived(unread, 1)?;
            if *unread == 1 && self.first_frame()?.is_some() {
                let (number, value) = self.receive().await?;
                *unread = 0;
                return match number == wanted {
                    true => Ok(value),
                    false => Err(io::ErrorKind::InvalidData.into()),
                };
            }
            self.fill().await?;
        }
    }

    /// Skips responses that have arrived, until only `left` are unread.
    ///
    /// # Errors
    /// A frame is too long.
    fn skip_arrived(&mut self, unread: &mut u32, left: u32) -> io::Result<()> {
        while *unread > left
            && let Some((_, end)) = self.first_frame()?
        {
            self.remove(end);
            *unread -= 1;
        }
        Ok(())
    }

    /// Takes in what has arrived, without waiting, and skips the responses in it; whether the
    /// connection is open and nothing arrived that was not due.
    pub(crate) fn is_open(&mut self, unread: &mut u32) -> bool {
        loop {
            if self.skip_arrived(unread, 0).is_err() || (*unread == 0 && !self.arrived.is_empty()) {
                return false;
            }
            let mut piece = [0; 1024];
            let mut buffer = ReadBuf::new(&mut piece);
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
                Poll::Pending => return true,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.arrived.extend_from_slice(buffer.filled());
                }
                Poll::Ready(_) => return false,
            }
        }
    }

    /// Resolves when the other end closes; takes in what it sends meanwhile. Dropped before it is
    /// ready, it has lost nothing.
    pub(crate) async fn closed(&mut self) -> io::Error {
        while self.arrived.len() < KEPT {
            if let Err(error) = self.fill().await {
                return error;
            }
        }
        // More than that is read when it is due.
        std::future::pending().await
    }

    /// Number and end of the first frame, if it has arrived as a whole.
    fn first_frame(&self) -> io::Result<Option<(u32, usize)>> {
        let Some((&[l0, l1, l2, l3, n0, n1, n2, n3], _)) = self.arrived.split_first_chunk() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > self.longest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let end = HEADER + length;
        let number = u32::from_be_bytes([n0, n1, n2, n3]);
        Ok((self.arrived.len() >= end).then_some((number, end)))
    }

    fn remove(&mut self, end: usize) {
        self.arrived.drain(..end);
        self.arrived.shrink_to(KEPT);
    }

    /// Waits for more bytes. The memory grows with what has arrived, not with what was announced.
    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.arrived).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The frame of a value, not numbered yet.
///
/// # Errors
/// [`Other`](io::ErrorKind::Other) if it cannot be encoded;
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is longer than the other end accepts.
pub(crate) fn to_frame<T: Serialize>(value: &T, longest: usize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    encode_onto(&mut frame, "a peer message", value).map_err(io::Error::other)?;
    let length = frame.len().saturating_sub(HEADER);
    if length > longest {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let length = u32::try_from(length).map_err(io::Error::other)?;
    if let Some(bytes) = frame.first_chunk_mut() {
        *bytes = length.to_be_bytes();
    }
    Ok(frame)
}

/// Gives a frame its number.
pub(crate) fn set_number(frame: &mut [u8], number: u32) {
    if let Some(bytes) = frame.get_mut(4..HEADER) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    const LONGEST: usize = 1000;

    fn pair() -> (Frames<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(64 * 1024);
        (Frames::new(ours, LONGEST), theirs)
    }

    fn frame(number: u32, text: &str) -> Vec<u8> {
        let mut frame = to_frame(&text, LONGEST).unwrap();
        set_number(&mut frame, number);
        frame
    }

    fn is_pending<T>(future: impl Future<Output = T>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_pending()
    }

    #[tokio::test]
    async fn frames_arrive_in_pieces_and_together() {
        let (mut frames, mut peer) = pair();
        let bytes = [frame(1, "one"), frame(2, "two"), frame(3, "three")].concat();
        let (first, rest) = bytes.split_at(9);
        peer.write_all(first).await.unwrap();
        assert!(is_pending(frames.receive::<String>()));
        peer.write_all(rest).await.unwrap();
        for expected in [(1, "one"), (2, "two"), (3, "three")] {
            let (number, text) = frames.receive::<String>().await.unwrap();
            assert_eq!((number, text.as_str()), expected);
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_of_ours_ends_the_connection() {
        let too_long = [0, 0, 3, 233, 0, 0, 0, 0];
        for (bytes, expected) in [
            (&too_long[..], io::ErrorKind::InvalidData),
            (&[0, 0, 0, 2, 0, 0, 0, 0, 9, 9], io::ErrorKind::Other),
            (&[0, 0, 0, 2, 0, 0, 0, 0, 9], io::ErrorKind::UnexpectedEof),
        ] {
            let (mut frames, mut peer) = pair();
            peer.write_all(bytes).await.unwrap();
            drop(peer);
            let error = frames.receive::<String>().await.unwrap_err();
            assert_eq!(error.kind(), expected, "{bytes:?}");
        }
        assert!(to_frame(&"x".repeat(LONGEST), LONGEST).is_err());
    }

    #[tokio::test]
    async fn responses_that_nobody_waits_for_are_skipped() {
        let (mut frames, mut peer) = pair();
        let mut unread = 3;
        peer.write_all(&frame(4, "first")).await.unwrap();
        assert!(is_pending(
            frames.receive_numbered::<String>(6, &mut unread)
        ));
        assert_eq!(unread, 2);
        let rest = [frame(5, "second"), frame(6, "third")].concat();
        peer.write_all(&rest).await.unwrap();
        let third: String = frames.receive_numbered(6, &mut unread).await.unwrap();
        assert_eq!((third.as_str(), unread), ("third", 0));
        peer.write_all(&frame(8, "not due")).await.unwrap();
        unread = 1;
        let error = frames.receive_numbered::<String>(7, &mut unread).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn an_open_connection_is_one_on_which_nothing_came_that_is_not_due() {
        let (mut frames, mut peer) = pair();
        let mut unread = 2;
        assert!(frames.is_open(&mut unread));
        peer.write_all(&frame(0, "due")).await.unwrap();
        assert!(frames.is_open(&mut unread));
        assert_eq!(unread, 1);
        peer.write_all(&frame(1, "due")).await.unwrap();
        assert!(frames.is_open(&mut unread));
        assert_eq!(unread, 0);
        peer.write_all(b"x").await.unwrap();
        assert!(!frames.is_open(&mut unread));
        let (mut frames, peer) = pair();
        drop(peer);
        assert!(!frames.is_open(&mut unread));
    }

    #[tokio::test]
    async fn what_comes_while_a_response_is_made_is_kept_within_bounds() {
        let (mut frames, mut peer) = pair();
        peer.write_all(&frame(1, "next")).await.unwrap();
        assert!(is_pending(frames.closed()));
        assert_eq!(frames.receive::<String>().await.unwrap().1, "next");
        peer.write_all(&[7; 60 * 1024]).await.unwrap();
        assert!(is_pending(frames.closed()));
        assert!(frames.arrived.len() < 2 * KEPT + 1024);
        let (mut frames, peer) = pair();
        drop(peer);
        assert_eq!(frames.closed().await.kind(), io::ErrorKind::UnexpectedEof);
    }
}
