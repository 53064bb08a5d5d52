//! Dials a peer and introduces this process; asks over the connection.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::peer::frames::{Frames, set_number};
use crate::peer::handshake::{
    self, HandshakeError, Introduction, Me, Party, Recipient, Refusal, Verdict, Welcome,
};
use crate::peer::lineage::Known;
use crate::peer::message::{Class, Response};

/// Answers that one connection may owe; the peer answers in order.
const MOST_UNREAD: u32 = 64;

/// A peer that owes an answer for longer may hang.
const OWED: Duration = Duration::from_millis(100);

/// A peer to which there is no connection by then is dialled again.
const DIAL: Duration = Duration::from_millis(500);

/// A peer that has not answered the introduction by then is dialled again. It may have to dial back
/// before it answers.
const WELCOME: Duration = Duration::from_secs(3);

/// What carries the bytes of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that has been made, before the handshake.
pub(crate) type Connecting =
    Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'static>>;

/// Connects to an address.
pub(crate) type Connector = dyn Fn(String) -> Connecting + Send + Sync;

/// Connects by TCP.
pub(crate) fn tcp(address: String) -> Connecting {
    Box::pin(async move {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    })
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DialError {
    /// The peer does not accept it.
    #[error("{} does not accept the connection: {refusal}", .peer)]
    Refused {
        /// The name of the peer that is there.
        peer: String,
        /// Why.
        refusal: Refusal,
    },
    /// It could not be made.
    #[error("{1}")]
    Failed(io::ErrorKind, String),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        DialError::Failed(error.kind(), error.to_string())
    }
}

impl From<HandshakeError> for DialError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => error.into(),
            other => DialError::Failed(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}

/// A connection that has been accepted.
pub(crate) struct Connection {
    pub(super) frames: Frames<Box<dyn Stream>>,
    pub(super) class: Class,
    pub(super) address: String,
    /// The process at the other end.
    pub(super) start: u64,
    next_number: u32,
    /// Responses that are due, including those that no caller waits for any longer.
    pub(super) unread: u32,
    /// Since when there are some.
    unread_since: Instant,
    /// A request may have been sent in part, or the peer has failed.
    broken: bool,
    pub(super) idle_since: Instant,
}

impl Connection {
    /// Sends a request and receives its response. Dropped before it is ready, the connection may
    /// still be of use: see [`is_reusable`](Self::is_reusable).
    ///
    /// # Errors
    /// Those of writing and reading: the request may have had its effect.
    pub(crate) async fn ask(&mut self, frame: &mut [u8]) -> io::Result<Response> {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        set_number(frame, number);
        self.broken = true;
        self.frames.send(frame).await?;
        self.broken = false;
        if self.unread == 0 {
            self.unread_since = Instant::now();
        }
        self.unread += 1;
        let response = self.frames.receive_numbered(number, &mut self.unread).await;
        self.broken = response.is_err();
        response
    }

    /// Whether its peer answers soon, if all that it owes is answered in order.
    pub(super) fn is_prompt(&self) -> bool {
        self.unread < MOST_UNREAD && self.unread_since.elapsed() < OWED
    }

    /// Whether another request may go over it. What is long was given up on because the peer
    /// hangs, so another connection is tried; the answer to something short may just not be needed.
    pub(super) fn is_reusable(&self) -> bool {
        !self.broken && (self.unread == 0 || self.class == Class::Small)
    }
}

/// What is at an address.
pub(crate) struct Greeted {
    /// The process there.
    pub(crate) party: Party,
    /// Why it does not accept this one.
    pub(crate) refused: Option<Refusal>,
}

/// Dials a peer and introduces this process; `known` is what it must remember.
///
/// # Errors
/// [`DialError`].
pub(crate) async fn dial(
    connector: &Connector,
    me: &Me,
    known: Option<Known>,
    to: Option<Recipient>,
    address: &str,
    class: Class,
) -> Result<(Connection, Greeted), DialError> {
    let late = |late| DialError::from(io::Error::from(late));
    let connected = tokio::time::timeout(DIAL, connector(address.to_string())).await;
    let mut stream = connected.map_err(late)??;
    let introduction = Introduction {
        from: me.party(),
        to,
        class,
        known,
    };
    let shaken = async {
        handshake::send(&mut stream, &introduction).await?;
        handshake::receive(&mut stream).await
    };
    let shaken = tokio::time::timeout(WELCOME, shaken).await;
    let welcome: Welcome = shaken.map_err(late)??;
    judge(me, &welcome, to.is_some())?;
    let connection = Connection {
        frames: Frames::new(stream, class.longest_frame()),
        class,
        address: address.to_string(),
        start: welcome.from.start,
        next_number: 0,
        unread: 0,
        unread_since: Instant::now(),
        broken: false,
        idle_since: Instant::now(),
    };
    let greeted = Greeted {
        party: welcome.from,
        refused: welcome.refused,
    };
    Ok((connection, greeted))
}

/// Notes what the peer thinks of this process, which may no longer speak for its member then. It may
/// still ask who is there.
fn judge(me: &Me, welcome: &Welcome, as_member: bool) -> Result<(), DialError> {
    let by = || welcome.from.name.clone();
    let ours = me.place().map(|place| place.cluster);
    let theirs = welcome.from.place.map(|place| place.cluster);
    let forgotten = ours.is_some()
        && ours == theirs
        && welcome.known.is_some_and(|known| !me.remembers(&known));
    match &welcome.refused {
        Some(Refusal::SenderForgot) => me.condemn(Verdict::Forgotten { by: by() }),
        Some(Refusal::Copy { address, .. }) => me.condemn(Verdict::Copy {
            by: by(),
            address: address.clone(),
        }),
        _ if forgotten => me.condemn(Verdict::Forgotten { by: by() }),
        _ => {}
    }
    match forgotten && as_member {
        true => Err(DialError::Refused {
            peer: by(),
            refusal: Refusal::SenderForgot,
        }),
        false => Ok(()),
    }
}

/// Asks who is at an address.
///
/// # Errors
/// [`DialError`].
pub(crate) async fn greet(
    connector: &Connector,
    me: &Me,
    known: Option<Known>,
    address: &str,
    class: Class,
) -> Result<Greeted, DialError> {
    let (_, greeted) = dial(connector, me, known, None, address, class).await?;
    Ok(greeted)
}
