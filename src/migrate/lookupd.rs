//! Asks one registry over HTTP: an nsqlookupd, or a cluster at whichever member answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::address::Address;
use crate::error::{Error, Result};

/// For one connection.
const CONNECT: Duration = Duration::from_secs(5);

/// For one answer, its body included. A large nsqlookupd takes its time for /nodes.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a registry that has answered before may fail to do so, or say that it has no quorum.
/// An election is much shorter, and the restart of a member is, too.
const PATIENCE: Duration = Duration::from_secs(15);

/// Before the same is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest answer about a cluster, in bytes.
const LONGEST_STATUS: usize = 1024 * 1024;

/// The longest body of an error that is read, in bytes.
const LONGEST_ERROR: usize = 4096;

/// How much is shown of what is wrong with an answer, in characters.
const LONGEST_REASON: usize = 200;

/// One registry. Clones share what they learn about it.
#[derive(Debug, Clone)]
pub(super) struct Lookupd {
    http: reqwest::Client,
    addresses: Arc<[Address]>,
    /// Which address answered last: it is asked first.
    current: Arc<AtomicUsize>,
    /// Whether it ever answered. One that never did is rather a mistake than a restart.
    answered: Arc<AtomicBool>,
}

/// Why one exchange gave nothing.
enum Failure {
    /// Nobody answered.
    NoAnswer(String),
    /// The registry cannot now, or cannot tell whether it did.
    NotNow(String),
    /// Asking again would change nothing.
    Final(String),
}

impl Lookupd {
    /// A registry at any of these addresses.
    ///
    /// # Errors
    /// [`Error::Lookupd`] if the system allows no HTTP client.
    pub(super) fn new(addresses: Vec<Address>) -> Result<Lookupd> {
        let http = reqwest::Client::builder()
            .no_proxy()
            // nsqlookupd redirects nothing that we ask for.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()
            .map_err(|error| Error::Lookupd(format!("no HTTP client: {}", reason(&error))))?;
        Ok(Lookupd {
            http,
            addresses: addresses.into(),
            current: Arc::default(),
            answered: Arc::default(),
        })
    }

    /// Finds out whether there is anybody.
    ///
    /// # Errors
    /// [`Error::Lookupd`] if not.
    pub(super) async fn ping(&self) -> Result<()> {
        let answer = self.ask(&Method::GET, "/ping", &[], LONGEST_ERROR);
        answer.await.map(|_| ())
    }

    /// Whether it is one of ours, which tell of their cluster.
    pub(super) async fn is_raftlookupd(&self) -> bool {
        let status = self.ask(&Method::GET, "/cluster/status", &[], LONGEST_STATUS);
        status.await.is_ok()
    }

    /// Reads something, as fresh as if there were one nsqlookupd.
    ///
    /// # Errors
    /// [`Error::Lookupd`] if there is no answer in time, or one that is longer than this many
    /// bytes or has another form.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        arguments: &[(&str, &str)],
        longest: usize,
    ) -> Result<T> {
        // nsqlookupd ignores it. A member without a quorum would answer with what it knows.
        let arguments = [arguments, &[("consistency", "linearizable")]].concat();
        let (url, body) = self.ask(&Method::GET, path, &arguments, longest).await?;
        serde_json::from_slice(&body).map_err(|error| {
            // It may quote what was answered.
            let reason: String = error.to_string().chars().take(LONGEST_REASON).collect();
            Error::Lookupd(format!("{url} is not what nsqlookupd answers: {reason}"))
        })
    }

    /// Has something done that may be done twice.
    ///
    /// # Errors
    /// [`Error::Lookupd`] if it is refused, or not acknowledged in time; then it may be done.
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
            // 502: of a proxy before it.
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

/// What happened; which library noticed does not matter.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let limit = if error.is_connect() { CONNECT } else { ANSWER };
        return format!("no answer within {limit:?}");
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
