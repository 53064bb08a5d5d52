//! Outgoing peer calls: one pooled HTTP client and the write lanes, a deadline on every call.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::registration::MemberId;

use crate::error::{Error, Result, innermost};
use crate::peer::frames::Opening;
use crate::peer::message::{Addressed, Declined, PeerRequest, Reply};
use crate::peer::write_lane::{WriteLanes, WriteRequest};

/// A connection idle for longer may lead to a peer that is long gone: rather dial again, which
/// also resolves the name again.
const IDLE: Duration = Duration::from_secs(5);

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens there: the peer's process is gone. The call had no effect, unless it was a
    /// write: that may have been sent before, on a connection that broke.
    #[error("connection refused")]
    Refused,
    /// No answer in time, or a broken connection: the call may have had its effect.
    #[error("{0}")]
    Lost(String),
    /// The peer said why it does not answer; the call had no effect.
    #[error("{0}")]
    Declined(Declined),
}

/// Calls peers; clones share the connections.
#[derive(Clone)]
pub(crate) struct PeerClient {
    http: reqwest::Client,
    lanes: WriteLanes,
    me: Option<(u128, MemberId)>,
    contacts: Arc<Mutex<BTreeMap<MemberId, Contact>>>,
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
    /// A client for a process that belongs to no cluster yet.
    pub(crate) fn new() -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| Error::Fatal(format!("no HTTP client for peers: {error}")))?;
        Ok(PeerClient {
            http,
            lanes: WriteLanes::default(),
            me: None,
            contacts: Arc::default(),
        })
    }

    /// The same client, speaking as this member of this cluster.
    pub(crate) fn as_member(&self, cluster: u128, id: MemberId) -> Self {
        PeerClient {
            me: Some((cluster, id)),
            ..self.clone()
        }
    }

    /// Asks a member of our cluster.
    pub(crate) async fn call<Q: PeerRequest>(
        &self,
        to: MemberId,
        address: &str,
        message: Q,
        deadline: Duration,
    ) -> std::result::Result<Q::Answer, CallError> {
        let message = self.addressed(to, message);
        let answer = self
            .post::<Q>(address, encode(Q::PATH, &message), deadline)
            .await;
        self.note(to, address, answer.as_ref().err());
        answer
    }

    /// Asks a member of our cluster for what a write needs.
    pub(crate) async fn write<Q: WriteRequest>(
        &self,
        to: MemberId,
        address: &str,
        request: Q,
        deadline: Duration,
    ) -> std::result::Result<Q::Answer, CallError> {
        let opening = self.addressed(to, Opening);
        let answer = self.lanes.ask(opening, address, request);
        let answer = match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(reply)) => reply.map_err(CallError::Declined),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(CallError::Refused)
            }
            Ok(Err(error)) => Err(CallError::Lost(error.to_string())),
            Err(elapsed) => Err(CallError::Lost(elapsed.to_string())),
        };
        self.note(to, address, answer.as_ref().err());
        answer
    }

    /// Asks whoever is at the address, which need not be a member of our cluster.
    pub(crate) async fn ask<Q: PeerRequest>(
        &self,
        address: &str,
        message: &Q,
        deadline: Duration,
    ) -> std::result::Result<Q::Answer, CallError> {
        self.post::<Q>(address, encode(Q::PATH, message), deadline)
            .await
    }

    /// How calls to each peer have gone.
    pub(crate) fn contacts(&self) -> BTreeMap<MemberId, Contact> {
        self.contacts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn addressed<T>(&self, to: MemberId, message: T) -> Addressed<T> {
        let (cluster, from) = self.me.unwrap_or_default();
        Addressed {
            cluster,
            from,
            to,
            message,
        }
    }

    async fn post<Q: PeerRequest>(
        &self,
        address: &str,
        body: raftlookupd_storage::Result<Vec<u8>>,
        deadline: Duration,
    ) -> std::result::Result<Q::Answer, CallError> {
        let lost = |error: &(dyn std::error::Error + 'static)| {
            CallError::Lost(innermost(error).to_string())
        };
        let body = body.map_err(|error| lost(&error))?;
        let url = format!("http://{address}{}", Q::PATH);
        let response = self
            .http
            .post(url)
            .body(body)
            .timeout(deadline)
            .send()
            .await;
        let response = response.map_err(|error| {
            if error.is_connect() && is_refused(&error) {
                CallError::Refused
            } else {
                lost(&error)
            }
        })?;
        if !response.status().is_success() {
            return Err(CallError::Lost(format!(
                "HTTP status {}",
                response.status()
            )));
        }
        let bytes = response.bytes().await.map_err(|error| lost(&error))?;
        let reply: Reply<Q::Answer> = decode(Q::PATH, &bytes).map_err(|error| lost(&error))?;
        reply.map_err(CallError::Declined)
    }

    /// One line when a peer is lost, one when it is back; loud when it is somebody else.
    fn note(&self, peer: MemberId, address: &str, error: Option<&CallError>) {
        let mut contacts = self.contacts.lock().unwrap_or_else(PoisonError::into_inner);
        let contact = contacts.entry(peer).or_default();
        match error {
            None | Some(CallError::Declined(Declined::NotLeader | Declined::Refused(_))) => {
                if contact.failures >= LOST_AFTER {
                    tracing::info!(peer, address, "peer answers again");
                }
                contact.failures = 0;
                contact.answered = Some(Instant::now());
            }
            Some(error) => {
                contact.failures += 1;
                if contact.failures == LOST_AFTER {
                    tracing::warn!(peer, address, %error, "peer does not answer");
                }
            }
        }
    }
}

/// A single lost call is everyday life; this many in a row are worth a line.
const LOST_AFTER: u64 = 3;

fn is_refused(error: &reqwest::Error) -> bool {
    innermost(error)
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
