//! Keeps connections to peers open, and dials them.
//!
//! A call has a connection for itself while it lasts: nothing wakes up but the task that waits
//! for the answer. It takes a free one, or waits for another to be dialled. Dialling outlives its
//! caller: openraft gives a follower one heartbeat interval, and if that had to be enough for
//! connecting, the handshake and the entries, a peer that is some way off would never be reached
//! again.
//!
//! A peer that is not at its recorded address may have moved: then it is tried where it is listed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raftlookupd_storage::registration::MemberId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::peer::connection::{Connection, Connector, DialError, Greeted, dial};
use crate::peer::handshake::{Me, Recipient};
use crate::peer::message::{Class, Response};
use crate::peer::speakers::Speakers;
use crate::types::PeerNode;

/// A connection idle for longer may lead to a peer that is long gone: rather dial again, which
/// also resolves the name again. The server waits longer.
const IDLE: Duration = Duration::from_secs(5);

/// Free connections to one peer, for each class.
const MOST_IDLE: usize = 4;

/// Free connections that all owe answers are left alone while there are fewer than this: what is
/// asked next had to wait behind those answers.
const ENOUGH: usize = 2;

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

    pub(crate) fn speakers(&self) -> &Speakers {
        &self.speakers
    }

    /// Asks a member, until this deadline. Everything members ask each other may be repeated, so a
    /// connection that turns out to be broken is replaced once.
    ///
    /// # Errors
    /// [`DialError`]; the request may have had its effect, unless the peer refused the connection.
    pub(crate) async fn ask(
        &self,
        id: MemberId,
        node: &PeerNode,
        class: Class,
        frame: &mut [u8],
        deadline: Instant,
    ) -> Result<Response, DialError> {
        if let Some(mut loan) = self.take(id, class, node) {
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
            let dialled = self.dialled(id, node, class);
            let dialled = tokio::time::timeout_at(deadline, dialled).await;
            dialled.unwrap_or_else(|late| Err(io::Error::from(late).into()))?;
            // Another caller may have been quicker.
            if let Some(mut loan) = self.take(id, class, node) {
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
    async fn dialled(&self, id: MemberId, node: &PeerNode, class: Class) -> Dialled {
        let mut outcome = {
            let mut connections = self.connections();
            let dialling = connections.dialling.entry((id, class));
            let dialling = dialling.or_insert_with(|| self.dial(id, node.clone(), class));
            dialling.clone()
        };
        let outcome = outcome.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        // The task was ended with its runtime.
        outcome.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::Interrupted).into()))
    }

    fn dial(&self, id: MemberId, node: PeerNode, class: Class) -> watch::Receiver<Option<Dialled>> {
        let (done, outcome) = watch::channel(None);
        let pool = self.clone();
        tokio::spawn(async move {
            let dialled = pool.dial_member(id, &node, class).await;
            let dialled = dialled.map(|connection| pool.put(id, connection));
            pool.connections().dialling.remove(&(id, class));
            done.send_replace(Some(dialled));
        });
        outcome
    }

    /// Dials a member where it may be, and notes the process that answers for it. Who is not the
    /// member refuses the connection.
    async fn dial_member(
        &self,
        id: MemberId,
        node: &PeerNode,
        class: Class,
    ) -> Result<Connection, DialError> {
        let mut failed = None;
        for address in self
            .speakers
            .addresses_of(id, &node.name, Some(&node.address))
        {
            match self.dial_at(id, node, &address, class).await {
                Ok(connection) => return Ok(connection),
                // The reason at the recorded address says more.
                Err(error) if failed.is_none() || address == node.address => failed = Some(error),
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound).into()))
    }

    async fn dial_at(
        &self,
        id: MemberId,
        node: &PeerNode,
        address: &str,
        class: Class,
    ) -> Result<Connection, DialError> {
        let known = self.speakers.known(id);
        let to = Recipient {
            id,
            instance: node.instance,
        };
        let dialled = dial(&*self.connector, &self.me, known, Some(to), address, class).await;
        let (connection, Greeted { party, refused }) = dialled?;
        if let Some(refusal) = refused {
            let peer = party.name;
            return Err(DialError::Refused { peer, refusal });
        }
        self.speakers.met(id, &party, address).await?;
        Ok(connection)
    }

    fn take(&self, to: MemberId, class: Class, node: &PeerNode) -> Option<Loan<'_>> {
        let mut connections = self.connections();
        let idle = connections.idle.get_mut(&(to, class))?;
        idle.retain_mut(|connection| {
            self.speakers.may_be_at(to, node, &connection.address)
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
