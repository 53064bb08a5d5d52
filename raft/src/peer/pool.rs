//! Keeps connections to peers open, and dials them.
//!
//! A call has a connection for itself while it lasts: nothing wakes up but the task that waits
//! for the answer. It takes a free one, or waits for another to be dialled. Dialling outlives its
//! caller: openraft gives a follower one heartbeat interval, and if that had to be enough for
//! connecting, the handshake and the entries, a peer that is some way off would never be reached
//! again.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raftlookupd_storage::registration::MemberId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::peer::frames::{Frames, set_number};
use crate::peer::handshake::{
    self, HandshakeError, Introduction, Me, Recipient, Refusal, Verdict, Welcome,
};
use crate::peer::lineage::Known;
use crate::peer::message::{Class, Response};
use crate::peer::speakers::{Greeted, Speakers};

/// A connection idle for longer may lead to a peer that is long gone: rather dial again, which
/// also resolves the name again. The server waits longer.
const IDLE: Duration = Duration::from_secs(5);

/// Free connections to one peer, for each class.
const MOST_IDLE: usize = 4;

/// Free connections that all owe answers are left alone while there are fewer than this: what is
/// asked next had to wait behind those answers.
const ENOUGH: usize = 2;

/// Answers that one connection may owe; the peer answers in order.
const MOST_UNREAD: u32 = 64;

/// A peer that owes an answer for longer may hang.
const OWED: Duration = Duration::from_millis(100);

/// A peer to which there is no connection by then is dialled again.
const DIAL: Duration = Duration::from_millis(500);

/// A peer that has not answered the introduction by then is dialled again. It may have to dial back
/// before it answers.
const WELCOME: Duration = Duration::from_secs(1);

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
    frames: Frames<Box<dyn Stream>>,
    class: Class,
    address: String,
    /// The process at the other end.
    start: u64,
    next_number: u32,
    /// Responses that are due, including those that no caller waits for any longer.
    unread: u32,
    /// Since when there are some.
    unread_since: Instant,
    /// A request may have been sent in part, or the peer has failed.
    broken: bool,
    idle_since: Instant,
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
    fn is_prompt(&self) -> bool {
        self.unread < MOST_UNREAD && self.unread_since.elapsed() < OWED
    }

    /// Whether another request may go over it. What is long was given up on because the peer
    /// hangs, so another connection is tried; the answer to something short may just not be needed.
    fn is_reusable(&self) -> bool {
        !self.broken && (self.unread == 0 || self.class == Class::Small)
    }
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
    judge(me, &welcome)?;
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

/// Whether this process may speak for its member, as far as the peer knows.
fn judge(me: &Me, welcome: &Welcome) -> Result<(), DialError> {
    let by = || welcome.from.name.clone();
    let ours = me.place().map(|place| place.cluster);
    let theirs = welcome.from.place.map(|place| place.cluster);
    let forgotten = ours.is_some()
        && ours == theirs
        && welcome.known.is_some_and(|known| !me.remembers(&known));
    match &welcome.refused {
        Some(Refusal::SenderForgot) => me.condemn(Verdict::Forgotten { by: by() }),
        _ if forgotten => me.condemn(Verdict::Forgotten { by: by() }),
        Some(Refusal::Copy { address, .. }) => me.condemn(Verdict::Copy {
            by: by(),
            address: address.clone(),
        }),
        _ => return Ok(()),
    }
    let refusal = welcome.refused.clone();
    Err(DialError::Refused {
        peer: by(),
        refusal: refusal.unwrap_or(Refusal::SenderForgot),
    })
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

/// What came of dialling: a connection is free, or why there is none.
type Dialled = Result<(), DialError>;

#[derive(Default)]
struct Connections {
    /// The longest idle first.
    idle: BTreeMap<(MemberId, Class), Vec<Connection>>,
    /// At most one for each peer and class.
    dialling: BTreeMap<(MemberId, Class), watch::Receiver<Option<Dialled>>>,
}

/// Connections to the members of a cluster; clones share them.
#[derive(Clone)]
pub(crate) struct Pool {
    me: Arc<Me>,
    connector: Arc<Connector>,
    speakers: Arc<Speakers>,
    connections: Arc<Mutex<Connections>>,
}

/// A connection on loan, put back when this is dropped if it is still of use.
struct Loan<'a> {
    pool: &'a Pool,
    to: MemberId,
    connection: Option<Connection>,
}

impl Loan<'_> {
    async fn ask(&mut self, frame: &mut [u8]) -> io::Result<Response> {
        let connection = self.connection.as_mut();
        let connection = connection.ok_or(io::ErrorKind::NotConnected)?;
        let response = connection.ask(frame).await?;
        // Another process may speak for the member by now; what this one promises is worth nothing.
        match self.pool.speakers.speaks(self.to, connection.start) {
            true => Ok(response),
            false => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// The peer did not answer in time.
    fn discard(&mut self) {
        self.connection = None;
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(Connection::is_reusable) {
            self.pool.put(self.to, connection);
        }
    }
}

impl Pool {
    /// An empty pool of a process that introduces itself like this.
    pub(crate) fn new(me: Arc<Me>, connector: Arc<Connector>, speakers: Arc<Speakers>) -> Self {
        Pool {
            me,
            connector,
            speakers,
            connections: Arc::default(),
        }
    }

    /// Asks a member at its address, until this deadline. Everything members ask each other may be
    /// repeated, so a connection that turns out to be broken is replaced once.
    ///
    /// # Errors
    /// [`DialError`]; the request may have had its effect, unless the peer refused the connection.
    pub(crate) async fn ask(
        &self,
        to: Recipient,
        address: &str,
        class: Class,
        frame: &mut [u8],
        deadline: Instant,
    ) -> Result<Response, DialError> {
        if let Some(mut loan) = self.take(to.id, class, address) {
            match tokio::time::timeout_at(deadline, loan.ask(frame)).await {
                Ok(Ok(response)) => return Ok(response),
                // It was closed, or cut off, in this moment.
                Ok(Err(_)) => {}
                Err(late) => {
                    loan.discard();
                    return Err(io::Error::from(late).into());
                }
            }
        }
        loop {
            let dialled = self.dialled(to, address, class);
            let dialled = tokio::time::timeout_at(deadline, dialled).await;
            dialled.unwrap_or_else(|late| Err(io::Error::from(late).into()))?;
            // Another caller may have been quicker.
            if let Some(mut loan) = self.take(to.id, class, address) {
                let response = tokio::time::timeout_at(deadline, loan.ask(frame)).await;
                return match response {
                    Ok(response) => Ok(response?),
                    Err(late) => {
                        loan.discard();
                        Err(io::Error::from(late).into())
                    }
                };
            }
        }
    }

    /// Dials, or waits for what comes of it where that is under way.
    async fn dialled(&self, to: Recipient, address: &str, class: Class) -> Dialled {
        let mut outcome = {
            let mut connections = self.connections();
            let dialling = connections.dialling.entry((to.id, class));
            let dialling = dialling.or_insert_with(|| self.dial(to, address.to_string(), class));
            dialling.clone()
        };
        let outcome = outcome.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        // The task was ended with its runtime.
        outcome.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::Interrupted).into()))
    }

    fn dial(
        &self,
        to: Recipient,
        address: String,
        class: Class,
    ) -> watch::Receiver<Option<Dialled>> {
        let (done, outcome) = watch::channel(None);
        let pool = self.clone();
        tokio::spawn(async move {
            let dialled = pool.dial_member(to, &address, class).await;
            let dialled = dialled.map(|connection| pool.put(to.id, connection));
            pool.connections().dialling.remove(&(to.id, class));
            done.send_replace(Some(dialled));
        });
        outcome
    }

    /// Dials a member, and notes the process that answers for it.
    async fn dial_member(
        &self,
        to: Recipient,
        address: &str,
        class: Class,
    ) -> Result<Connection, DialError> {
        let known = self.speakers.known(to.id);
        let dialled = dial(&*self.connector, &self.me, known, Some(to), address, class).await;
        let (connection, Greeted { party, refused }) = dialled?;
        if let Some(refusal) = refused {
            let peer = party.name;
            return Err(DialError::Refused { peer, refusal });
        }
        self.speakers.met(to.id, &party, address).await?;
        Ok(connection)
    }

    fn take(&self, to: MemberId, class: Class, address: &str) -> Option<Loan<'_>> {
        let mut connections = self.connections();
        let idle = connections.idle.get_mut(&(to, class))?;
        idle.retain_mut(|connection| {
            connection.address == address
                && self.speakers.speaks(to, connection.start)
                && connection.idle_since.elapsed() < IDLE
                && connection.frames.is_open(&mut connection.unread)
        });
        let free = idle.iter().rposition(|connection| connection.unread == 0);
        let position = match free {
            None if idle.len() >= ENOUGH => idle.iter().position(Connection::is_prompt)?,
            free => free?,
        };
        let connection = Some(idle.remove(position));
        Some(Loan {
            pool: self,
            to,
            connection,
        })
    }

    fn put(&self, to: MemberId, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut connections = self.connections();
        connections.idle.retain(|_, idle| {
            idle.retain(|connection| connection.idle_since.elapsed() < IDLE);
            !idle.is_empty()
        });
        let idle = connections.idle.entry((to, connection.class)).or_default();
        if idle.len() == MOST_IDLE {
            idle.remove(0);
        }
        idle.push(connection);
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
