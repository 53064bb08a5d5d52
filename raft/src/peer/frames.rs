//! Connections between members that stay open and carry frames, beside the HTTP requests that
//! share their port: see `read_lane` and `write_lane`.
//!
//! One begins with four bytes that say what it is for, the first of them zero, as in no HTTP
//! request. A frame is the length of a value, in four bytes, and the encoded value; the first
//! one says who asks whom.

use std::io;

use raftlookupd_storage::encoding::{decode, encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::message::Addressed;

/// The first byte of a connection that carries frames.
pub(crate) const FIRST_BYTE: u8 = 0;

/// What a connection begins with.
pub(crate) type Magic = [u8; 4];

/// What a connection keeps in memory between two frames, whatever their length was.
const KEPT: usize = 16 * 1024;

/// The first frame of the one that dials.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Opening;

/// One end of a connection.
pub(crate) struct Frames {
    stream: TcpStream,
    arrived: Vec<u8>,
    longest: usize,
}

impl Frames {
    /// A connection on which no longer frame is accepted than this.
    pub(crate) fn new(stream: TcpStream, longest: usize) -> Self {
        Frames {
            stream,
            arrived: Vec::new(),
            longest,
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// As those of connecting and writing.
    pub(crate) async fn dial(
        address: &str,
        magic: Magic,
        opening: &Addressed<Opening>,
        longest: usize,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut bytes = magic.to_vec();
        bytes.append(&mut to_frame(opening)?);
        stream.write_all(&bytes).await?;
        Ok(Frames::new(stream, longest))
    }

    /// Sends a short frame. Dropped before it is ready, it has sent nothing.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) if the peer has not read for a long time; those of
    /// writing. The connection is of no use then.
    pub(crate) async fn send_at_once(&mut self, frame: &[u8]) -> io::Result<()> {
        match self.stream.write(frame).await? {
            sent if sent == frame.len() => Ok(()),
            // So little always fits, otherwise.
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends a frame. If this fails, or is dropped before it is ready, the connection is of no
    /// use any more.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await
    }

    /// Receives a value. Dropped before it is ready, it has lost nothing.
    ///
    /// # Errors
    /// Those of reading; the end of the connection, a frame that is too long and one that
    /// cannot be decoded are errors too. The connection is of no use then.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        loop {
            if let Some((length, rest)) = self.arrived.split_first_chunk() {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
                if length > self.longest {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if let Some(frame) = rest.get(..length) {
                    let value = decode("a frame", frame).map_err(io::Error::other);
                    self.arrived.drain(..4 + length);
                    self.arrived.shrink_to(KEPT);
                    return value;
                }
            }
            // Grows with what has arrived, not with what was announced.
            if self.stream.read_buf(&mut self.arrived).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Resolves when the other end closes, or says something although it is not its turn.
    pub(crate) async fn interrupted(&self) -> io::Error {
        match self.stream.peek(&mut [0]).await {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => io::ErrorKind::InvalidData.into(),
            Err(error) => error,
        }
    }

    /// Whether nothing speaks against sending on this connection.
    pub(crate) fn is_open(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The frame of a value.
///
/// # Errors
/// [`Other`](io::ErrorKind::Other) if it cannot be encoded, or is far too long.
pub(crate) fn to_frame<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let encoded = encode("a frame", value).map_err(io::Error::other)?;
    let length = u32::try_from(encoded.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(4 + encoded.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&encoded);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn pair() -> (Frames, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        (Frames::new(dialled.unwrap(), 1000), accepted.unwrap().0)
    }

    /// Fails if the test hangs.
    async fn in_time(test: impl Future<Output = ()>) {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), test);
        ended.await.expect("the test hangs");
    }

    #[tokio::test]
    async fn frames_arrive_in_pieces_and_together() {
        in_time(async {
            let (mut frames, mut peer) = pair().await;
            let sent = ["one", "two", "three"].map(|text| to_frame(&text).unwrap());
            let bytes = sent.concat();
            let (first, rest) = bytes.split_at(5);
            peer.write_all(first).await.unwrap();
            let early = tokio::time::timeout(std::time::Duration::from_millis(20), async {
                frames.receive::<String>().await
            });
            early.await.unwrap_err();
            peer.write_all(rest).await.unwrap();
            for expected in ["one", "two", "three"] {
                assert_eq!(frames.receive::<String>().await.unwrap(), expected);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_no_frame_of_ours_ends_the_connection() {
        in_time(async {
            for (bytes, expected) in [
                (1001u32.to_be_bytes().to_vec(), io::ErrorKind::InvalidData),
                ([0, 0, 0, 2, 9, 9].to_vec(), io::ErrorKind::Other),
                ([0, 0, 0, 2, 9].to_vec(), io::ErrorKind::UnexpectedEof),
            ] {
                let (mut frames, mut peer) = pair().await;
                peer.write_all(&bytes).await.unwrap();
                drop(peer);
                let error = frames.receive::<String>().await.unwrap_err();
                assert_eq!(error.kind(), expected, "{bytes:?}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn an_open_connection_is_one_on_which_nothing_was_said() {
        in_time(async {
            let (frames, mut peer) = pair().await;
            assert!(frames.is_open());
            peer.write_all(b"x").await.unwrap();
            let error = frames.interrupted().await;
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(!frames.is_open());
            let (frames, peer) = pair().await;
            drop(peer);
            let error = frames.interrupted().await;
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(!frames.is_open());
        })
        .await;
    }
}
