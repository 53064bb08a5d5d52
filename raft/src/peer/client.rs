//! Calls peers, each call with a deadline, and keeps track of which of them answer.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::registration::MemberId;

use crate::peer::connection::{Connector, DialError, dial};
use crate::peer::frames::to_frame;
use crate::peer::handshake::{Me, Refusal};
use crate::peer::message::{Call, Class, Declined, Response};
use crate::peer::pool::Pool;
use crate::peer::rate_limit::RateLimit;
use crate::peer::speakers::Speakers;
use crate::types::PeerNode;

/// A single lost call is everyday life; this many in a row are worth a line.
const LOST_AFTER: u64 = 3;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens there: the peer's process is gone. The call had no effect, unless it was
    /// sent before on a connection that broke.
    #[error("connection refused")]
    Refused,
    /// No answer in time, or a broken connection: the call may have had its effect.
    #[error("{0}")]
    Lost(String),
    /// The peer did not accept the connection; the call had no effect.
    #[error("{peer} does not accept the connection: {refusal}")]
    Unwelcome {
        /// The name of the peer that is there.
        peer: String,
        /// Why.
        refusal: Refusal,
    },
    /// The peer was announced, and has yet to join. Nothing was sent.
    #[error("it has not joined yet")]
    NotJoined,
    /// The peer said why it does not answer; the call had no effect.
    #[error("{0}")]
    Declined(Declined),
}

impl From<DialError> for CallError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Failed(io::ErrorKind::ConnectionRefused, _) => CallError::Refused,
            DialError::Failed(_, text) => CallError::Lost(text),
            DialError::Refused { peer, refusal } => CallError::Unwelcome { peer, refusal },
        }
    }
}

/// Calls peers; clones share the connections.
#[derive(Clone)]
pub(crate) struct PeerClient {
    me: Arc<Me>,
    connector: Arc<Connector>,
    pool: Pool,
    contacts: Arc<Mutex<BTreeMap<MemberId, Contact>>>,
    refusals: Arc<RateLimit>,
}

/// How calls to one peer have gone; for the log and for operators.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Contact {
    /// The last answer.
    pub(crate) answered: Option<Instant>,
    /// Calls without an answer since then.
    pub(crate) failures: u64,
}

impl PeerClient {
    /// A client of a process that introduces itself like this.
    pub(crate) fn new(me: Arc<Me>, connector: Arc<Connector>, speakers: Arc<Speakers>) -> Self {
        PeerClient {
            pool: Pool::new(me.clone(), connector.clone(), speakers),
            me,
            connector,
            contacts: Arc::default(),
            refusals: Arc::default(),
        }
    }

    /// A client that keeps nothing of the peers that it meets.
    #[cfg(test)]
    pub(crate) fn over(me: Arc<Me>, connector: Arc<Connector>) -> Self {
        let speakers = Arc::new(Speakers::forgetful(me.clone(), connector.clone()));
        PeerClient::new(me, connector, speakers)
    }

    /// Asks a member of our cluster.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn call<Q: Call>(
        &self,
        to: MemberId,
        node: &PeerNode,
        request: Q,
        deadline: Duration,
    ) -> Result<Q::Answer, CallError> {
        if node.is_announced() {
            return Err(CallError::NotJoined);
        }
        let deadline = tokio::time::Instant::now() + deadline;
        let answer = async {
            let frame = to_frame(&request.into_request(), Q::CLASS.longest_frame());
            let mut frame = frame.map_err(|error| CallError::Lost(error.to_string()))?;
            let asked = self.pool.ask(to, node, Q::CLASS, &mut frame, deadline);
            answer::<Q>(asked.await?)
        };
        let answer = answer.await;
        self.note(to, node, answer.as_ref().err());
        answer
    }

    /// Asks the process at an address, which need not be a member of our cluster.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn ask<Q: Call>(
        &self,
        address: &str,
        request: Q,
        deadline: Duration,
    ) -> Result<Q::Answer, CallError> {
        let frame = to_frame(&request.into_request(), Class::Small.longest_frame());
        let mut frame = frame.map_err(|error| CallError::Lost(error.to_string()))?;
        let asked = async {
            let connector = &*self.connector;
            let dialled = dial(connector, &self.me, None, None, address, Class::Small).await;
            let (mut connection, greeted) = dialled?;
            if let Some(refusal) = greeted.refused {
                let peer = greeted.party.name;
                return Err(DialError::Refused { peer, refusal });
            }
            Ok(connection.ask(&mut frame).await?)
        };
        let asked = tokio::time::timeout(deadline, asked).await;
        let asked: Result<Response, DialError> =
            asked.unwrap_or_else(|late| Err(io::Error::from(late).into()));
        answer::<Q>(asked?)
    }

    /// Asks the process at a member's recorded address, or at the listed one if that does not answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn ask_at<Q: Call + Clone>(
        &self,
        (id, node): (MemberId, &PeerNode),
        request: Q,
        deadline: Duration,
    ) -> Result<Q::Answer, CallError> {
        let mut failed = CallError::Refused;
        for address in self
            .pool
            .speakers()
            .addresses_of(id, &node.name, Some(&node.address))
        {
            match self.ask(&address, request.clone(), deadline).await {
                Err(error @ (CallError::Refused | CallError::Lost(_))) => failed = error,
                answered => return answered,
            }
        }
        Err(failed)
    }

    /// How calls to each peer have gone.
    pub(crate) fn contacts(&self) -> BTreeMap<MemberId, Contact> {
        self.contacts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// One line when a peer is lost, one when it is back; loud when it is somebody else.
    fn note(&self, peer: MemberId, node: &PeerNode, error: Option<&CallError>) {
        let mut contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        let contact = contacts.entry(peer).or_default();
        let name = node.name.as_str();
        let address = node.address.as_str();
        match error {
            None | Some(CallError::Declined(_)) => {
                if contact.failures >= LOST_AFTER {
                    tracing::info!(peer = name, address, "peer answers again");
                }
                contact.failures = 0;
                contact.answered = Some(Instant::now());
            }
            Some(error) => {
                contact.failures += 1;
                if contact.failures == LOST_AFTER {
                    tracing::warn!(peer = name, address, %error, "peer does not answer");
                }
            }
        }
        drop(contacts);
        if let Some(CallError::Unwelcome { peer, refusal }) = error
            && !refusal.is_passing()
            && self
                .refusals
                .allows(&format!("{name} {address} {refusal}"), Instant::now())
        {
            let me = self.me.party().name;
            tracing::error!(
                member = me,
                wanted = name,
                address,
                found = peer,
                %refusal,
                "a peer does not accept connections of this member"
            );
        }
    }
}

fn answer<Q: Call>(response: Response) -> Result<Q::Answer, CallError> {
    if let Response::Declined(declined) = response {
        return Err(CallError::Declined(declined));
    }
    let other = || CallError::Lost("the response is to another request".into());
    Q::answer(response).ok_or_else(other)
}
