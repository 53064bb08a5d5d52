//! Asks the endpoints of a cluster, one after the other, until one answers.

use std::time::Duration;

use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::commands::address::Address;
use crate::outcome::{Failed, Kind};

/// Deadline for connecting.
const CONNECT: Duration = Duration::from_secs(2);

/// Deadline for an answer: longer than a member takes for a change.
const ANSWER: Duration = Duration::from_secs(20);

/// The longest answer, in bytes: the names of very many topics.
const LONGEST: usize = 64 * 1024 * 1024;

/// A client of one cluster.
pub(super) struct Client {
    http: reqwest::Client,
    endpoints: Vec<Address>,
}

/// An answer that is an error.
#[derive(Deserialize)]
struct Refusal {
    message: String,
    reason: Option<String>,
}

impl Client {
    /// # Errors
    /// [`Failed`] if the HTTP client cannot be created.
    pub(super) fn new(endpoints: Vec<Address>) -> Result<Client, Failed> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build();
        let http = http.map_err(|error| {
            Failed::new(
                Kind::Failed,
                format!("cannot create an HTTP client: {error}"),
            )
        })?;
        Ok(Client { http, endpoints })
    }

    /// Reads something from the first endpoint that answers.
    ///
    /// # Errors
    /// [`Failed`].
    pub(super) async fn get(&self, path: &str) -> Result<Value, Failed> {
        self.ask(&Method::GET, path, &[]).await
    }

    /// Has the first endpoint that answers make a change. All of them may be repeated.
    ///
    /// # Errors
    /// [`Failed`].
    pub(super) async fn post(
        &self,
        path: &str,
        arguments: &[(&str, &str)],
    ) -> Result<Value, Failed> {
        self.ask(&Method::POST, path, arguments).await
    }

    async fn ask(
        &self,
        method: &Method,
        path: &str,
        arguments: &[(&str, &str)],
    ) -> Result<Value, Failed> {
        let mut silent = Vec::new();
        for endpoint in &self.endpoints {
            match self.exchange(method, endpoint.url(path, arguments)).await {
                Ok(answer) => return answer,
                Err(reason) => silent.push(format!("{endpoint}: {reason}")),
            }
        }
        Err(Failed::new(Kind::Unreachable, silent.join("; ")))
    }

    /// Reads something that a quorum has confirmed.
    ///
    /// # Errors
    /// [`Failed`].
    pub(super) async fn get_linearizable(&self, path: &str) -> Result<Value, Failed> {
        let arguments = [("consistency", "linearizable")];
        self.ask(&Method::GET, path, &arguments).await
    }

    /// # Errors
    /// Why there was no answer of a member: another endpoint may give one.
    async fn exchange(&self, method: &Method, url: Url) -> Result<Result<Value, Failed>, String> {
        let request = self.http.request(method.clone(), url);
        let mut answer = request.send().await.map_err(|error| cause(&error))?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| cause(&error))? {
            if body.len() + piece.len() > LONGEST {
                return Err(format!("answered {status} with more than {LONGEST} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        if status == 200 {
            let value = serde_json::from_slice(&body);
            return value.map(Ok).map_err(|_| "it is no raftlookupd".into());
        }
        let Ok(Refusal { message, reason }) = serde_json::from_slice(&body) else {
            return Err(format!("answered {status}"));
        };
        match &*message {
            "LOADING" => Err("it is still loading".into()),
            // nsqlookupd says so about every path under /cluster.
            "NOT_FOUND" => Err("it is no raftlookupd".into()),
            _ => {
                let kind = Kind::of(status, &message);
                let text = reason.unwrap_or_else(|| explained(&message).into());
                Ok(Err(Failed::new(kind, text.replace(char::is_control, " "))))
            }
        }
    }
}

/// A message in words.
fn explained(message: &str) -> &str {
    match message {
        "NO_QUORUM" => "there is no leader with a quorum; nothing was changed",
        "OUTCOME_UNKNOWN" => {
            "the leader did not answer in time: the change may have been made; look at the members, \
             and repeat it"
        }
        other => other,
    }
}

/// The cause of an error, without the layers of libraries around it.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
