//! Sends requests to one registry over HTTP: an nsqlookupd, or a cluster at any member that answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::commands::address::Address;
use crate::durations::format_duration;
use crate::error::{Error, Result};

/// Deadline for connecting.
const CONNECT: Duration = Duration::from_secs(5);

/// Deadline for one response, its body included. /nodes of a large nsqlookupd takes long.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a registry that has answered before may be unreachable or without a quorum. An election
/// and the restart of a member take much less.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pause before a retry.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest cluster status, in bytes.
const LONGEST_STATUS: usize = 1024 * 1024;

/// The longest body of an error that is read, in bytes.
const LONGEST_ERROR: usize = 4096;

/// How much of an error about a response is shown, in characters.
const LONGEST_REASON: usize = 200;

/// A client of one registry. Clones share its state.
#[derive(Debug, Clone)]
pub(super) struct Lookupd {
    http: reqwest::Client,
    addresses: Arc<[Address]>,
    /// The address that answered last; it is tried first.
    current: Arc<AtomicUsize>,
    /// Whether it ever answered. If not, the address is more likely wrong than restarting.
    answered: Arc<AtomicBool>,
}

/// Why a request failed.
enum Failure {
    /// There was no response.
    NoAnswer(String),
    /// The registry cannot do it now, or does not know the outcome.
    NotNow(String),
    /// A retry would not help.
    Final(String),
}

impl Lookupd {
    /// A client of the registry at these addresses.
    ///
    /// # Errors
    /// [`Error::Lookupd`] if the HTTP client cannot be created.
    pub(super) fn new(addresses: Vec<Address>) -> Result<Lookupd> {
        let http = reqwest::Client::builder()
            .no_proxy()
            // nsqlookupd redirects none of our requests.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()
            .map_err(|error| {
                Error::Lookupd(format!("cannot create an HTTP client: {}", reason(&error)))
            })?;
        Ok(Lookupd {
            http,
            addresses: addresses.into(),
            current: Arc::default(),
            answered: Arc::default(),
        })
    }

    /// Checks that the registry answers.
    ///
    /// # Errors
    /// [`Error::Lookupd`] if not.
    pub(super) async fn ping(&self) -> Result<()> {
        let answer = self.ask(&Method::GET, "/ping", &[], LONGEST_ERROR);
        answer.await.map(|_| ())
    }

    /// Whether it is a raftlookupd: only those have a cluster status.
    pub(super) async fn is_raftlookupd(&self) -> bool {
        let status = self.ask(&Method::GET, "/cluster/status", &[], LONGEST_STATUS);
        status.await.is_ok()
    }

    /// Reads something; linearizable, if it is a cluster.
    ///
    /// # Errors
    /// [`Error::Lookupd`] if there is no response in time, or it is longer than this many bytes or
    /// malformed.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        arguments: &[(&str, &str)],
        longest: usize,
    ) -> Result<T> {
        // nsqlookupd ignores it. Without it, a member without a quorum gives a stale answer.
        let arguments = [arguments, &[("consistency", "linearizable")]].concat();
        let (url, body) = self.ask(&Method::GET, path, &arguments, longest).await?;
        serde_json::from_slice(&body).map_err(|error| {
            // It may quote the response.
            let reason: String = error.to_string().chars().take(LONGEST_REASON).collect();
            Error::Lookupd(format!("{url} did not answer like an nsqlookupd: {reason}"))
        })
    }

    /// Sends an idempotent write.
    ///
    /// # Errors
    /// [`Error::Lookupd`] if it is refused, or not acknowledged in time; then it may have happened.
    pub(super) async fn post(&self, path: &str, arguments: &[(&str, &str)]) -> Result<()> {
        let answer = self.ask(&Method::POST, path, arguments, LONGEST_ERROR);
        answer.await.map(|_| ())
    }

    async fn ask(
        &self,
        method: &Method,
        path: &str,
        arguments: &[(&str, &str)],
        longest: usize,
    ) -> Result<(Url, Vec<u8>)> {
        let started = Instant::now();
        loop {
            let mut reasons = Vec::new();
            let mut is_there = self.answered.load(Ordering::Relaxed);
            let first = self.current.load(Ordering::Relaxed);
            for number in first..first + self.addresses.len() {
                let number = number % self.addresses.len();
                let url = self.addresses[number].url(path, arguments);
                let failed = |reason: String| format!("{url}: {reason}");
                match self.exchange(method, url.clone(), longest).await {
                    Ok(body) => {
                        self.current.store(number, Ordering::Relaxed);
                        self.answered.store(true, Ordering::Relaxed);
                        return Ok((url, body));
                    }
                    Err(Failure::Final(reason)) => return Err(Error::Lookupd(failed(reason))),
                    Err(Failure::NotNow(reason)) => {
                        is_there = true;
                        reasons.push(failed(reason));
                    }
                    Err(Failure::NoAnswer(reason)) => reasons.push(failed(reason)),
                }
            }
            if !is_there || started.elapsed() > PATIENCE {
                return Err(Error::Lookupd(reasons.join("; ")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn exchange(
        &self,
        method: &Method,
        url: Url,
        longest: usize,
    ) -> std::result::Result<Vec<u8>, Failure> {
        let no_answer = |error: reqwest::Error| Failure::NoAnswer(reason(&error));
        let request = self.http.request(method.clone(), url);
        // Before 1.0, nsqlookupd answered in another form unless it was asked for this one.
        let request = request.header("Accept", "application/vnd.nsq; version=1.0");
        let mut answer = request.send().await.map_err(no_answer)?;
        let status = answer.status();
        let longest = if status.is_success() {
            longest
        } else {
            LONGEST_ERROR
        };
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(no_answer)? {
            if body.len() + piece.len() > longest {
                let what = format!("answered {status} with more than {longest} bytes");
                return Err(Failure::Final(what));
            }
            body.extend_from_slice(&piece);
        }
        match status.as_u16() {
            200 => Ok(body),
            // 502 comes from a proxy in front of it.
            502..=504 => Err(Failure::NotNow(refusal(status, &body))),
            _ => Err(Failure::Final(refusal(status, &body))),
        }
    }
}

/// `answered 503 NO_QUORUM`.
fn refusal(status: reqwest::StatusCode, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { message }) => {
            format!("answered {} {}", status.as_u16(), message.escape_debug())
        }
        Err(_) => format!("answered {status}"),
    }
}

/// The cause of an error, without the layers of libraries around it.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let limit = if error.is_connect() { CONNECT } else { ANSWER };
        return format!("no answer within {}", format_duration(limit));
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
