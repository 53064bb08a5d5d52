//! The connection on which members ask each other on behalf of reads.
//!
//! Every read asks, so this is the one question whose price counts: a small frame each way on a
//! connection that stays open, where the other calls are HTTP requests. It shares their port;
//! [`MAGIC`] tells it from them.

use std::io;

use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::registration::{MemberId, UnixMillis};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer_message::Addressed;
use crate::types::LeaderId;

/// The first bytes of such a connection; no HTTP request begins so.
pub(crate) const MAGIC: [u8; 4] = *b"\0RL1";

/// A peer that owes so many answers does not read any more.
const MOST_UNREAD: usize = 1000;

/// No frame is nearly as long.
const LONGEST_FRAME: usize = 1024;

/// The first frame of the one that dials.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Opening;

/// What the other frames of the one that dials ask.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Question {
    /// I follow you; what must a read that begins now see applied?
    ReadIndex {
        /// As whom I follow you.
        leader: LeaderId,
    },
    /// Have you voted for somebody newer than me?
    Following {
        /// As whom I lead.
        leader: LeaderId,
    },
}

/// The answer to each question, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Not any more, or not yet.
    No,
    /// To [`Question::Following`]: no newer one.
    Following,
    /// To [`Question::ReadIndex`].
    ReadPoint {
        /// The index that must be applied.
        index: u64,
        /// The cluster's time.
        time: UnixMillis,
    },
}

/// One end of a connection: frames of two bytes for their length and an encoded value.
pub(crate) struct Frames {
    stream: TcpStream,
    arrived: Vec<u8>,
}

impl Frames {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Frames {
            stream,
            arrived: Vec::with_capacity(LONGEST_FRAME),
        }
    }

    /// Dropped before it is ready, it has sent nothing.
    pub(crate) async fn write<T: Serialize>(&mut self, frame: &T) -> io::Result<()> {
        let encoded = encode("a frame", frame).map_err(io::Error::other)?;
        let length = u16::try_from(encoded.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(2 + encoded.len());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&encoded);
        match self.stream.write(&bytes).await? {
            sent if sent == bytes.len() => Ok(()),
            // So little always fits, unless the peer has not read for a long time.
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Dropped before it is ready, it has lost nothing. An error at the end of the connection.
    pub(crate) async fn read<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        loop {
            if let Some((length, rest)) = self.arrived.split_first_chunk() {
                let length = usize::from(u16::from_be_bytes(*length));
                if length > LONGEST_FRAME {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if let Some(frame) = rest.get(..length) {
                    let frame = decode("a frame", frame).map_err(io::Error::other);
                    self.arrived.drain(..2 + length);
                    return frame;
                }
            }
            if self.stream.read_buf(&mut self.arrived).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The end that asks; dials when it must.
pub(crate) struct Lane {
    opening: Addressed<Opening>,
    address: String,
    frames: Option<Frames>,
    /// Answers that nobody waited for.
    unread: usize,
}

impl Lane {
    /// A way to a member of our cluster; not dialled yet.
    pub(crate) fn new(cluster: u128, from: MemberId, to: MemberId, address: String) -> Self {
        Lane {
            opening: Addressed {
                cluster,
                from,
                to,
                message: Opening,
            },
            address,
            frames: None,
            unread: 0,
        }
    }

    pub(crate) fn leads_to(&self, address: &str) -> bool {
        self.address == address
    }

    /// Asks, if need be on a new connection. May be dropped before it is ready.
    ///
    /// # Errors
    /// Nothing is known then; the next question is asked on a new connection.
    pub(crate) async fn ask(&mut self, question: Question) -> io::Result<Answer> {
        // A connection that the peer has closed in the meantime shows it at once.
        if let Ok(answer) = self.ask_on_open(question).await {
            return Ok(answer);
        }
        self.hang_up();
        let mut frames = Frames::new(TcpStream::connect(&self.address).await?);
        frames.stream.set_nodelay(true)?;
        frames.stream.write_all(&MAGIC).await?;
        frames.write(&self.opening).await?;
        self.frames = Some(frames);
        let answer = self.ask_on_open(question).await;
        if answer.is_err() {
            self.hang_up();
        }
        answer
    }

    /// Asks the next question on a new connection.
    pub(crate) fn hang_up(&mut self) {
        self.frames = None;
        self.unread = 0;
    }

    async fn ask_on_open(&mut self, question: Question) -> io::Result<Answer> {
        let frames = self.frames.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        if self.unread == MOST_UNREAD {
            return Err(io::ErrorKind::TimedOut.into());
        }
        frames.write(&question).await?;
        self.unread += 1;
        loop {
            let answer = frames.read().await?;
            self.unread -= 1;
            if self.unread == 0 {
                return Ok(answer);
            }
        }
    }
}
