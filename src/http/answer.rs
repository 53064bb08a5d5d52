//! Builds responses with nsqlookupd's statuses, headers and bodies.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::http::error::HttpError;
use crate::http::long_answers::LongBody;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// With this, `go tool pprof` prints a plain text that comes instead of a profile.
const GO_PPROF: HeaderName = HeaderName::from_static("x-go-pprof");
const NSQ_CONTENT_TYPE: HeaderName = HeaderName::from_static("x-nsq-content-type");
const NSQ_VERSION: HeaderValue = HeaderValue::from_static("nsq; version=1.0");
const CONSISTENCY: HeaderName = HeaderName::from_static("x-raftlookupd-consistency");
const STALENESS: HeaderName = HeaderName::from_static("x-raftlookupd-staleness-ms");

/// The answer to a request.
#[derive(Debug)]
pub(super) struct Answer(Response);

impl Answer {
    /// 200 with a JSON body.
    ///
    /// # Errors
    /// [`HttpError::Internal`] if the body cannot be written as JSON.
    pub(super) fn json<T: Serialize + ?Sized>(body: &T) -> Result<Answer, HttpError> {
        let body = serde_json::to_vec(body).map_err(|_| HttpError::Internal)?;
        Ok(Answer::nsq(StatusCode::OK, Body::from(body)).with(header::CONTENT_TYPE, JSON))
    }

    /// 200 with a JSON body that was built page by page.
    pub(super) fn long(body: LongBody) -> Answer {
        Answer::nsq(StatusCode::OK, Body::new(body)).with(header::CONTENT_TYPE, JSON)
    }

    /// 200 without a body.
    pub(super) fn empty() -> Answer {
        Answer::nsq(StatusCode::OK, Body::empty())
    }

    /// Plain text, without nsqlookupd's own header.
    pub(super) fn text(body: impl Into<Body>) -> Answer {
        Answer(Response::new(body.into())).with(header::CONTENT_TYPE, TEXT)
    }

    /// Metrics as OpenMetrics.
    pub(super) fn open_metrics(text: String) -> Answer {
        Answer(Response::new(Body::from(text))).with(header::CONTENT_TYPE, OPEN_METRICS)
    }

    /// Metrics in Prometheus' text format.
    pub(super) fn metrics(text: String) -> Answer {
        Answer(Response::new(Body::from(text))).with(header::CONTENT_TYPE, METRICS)
    }

    /// A page for a browser.
    pub(super) fn html(body: &'static str) -> Answer {
        Answer(Response::new(Body::from(body))).with(header::CONTENT_TYPE, HTML)
    }

    /// A profile for `go tool pprof`, with the headers that Go programs send.
    pub(super) fn profile(name: &str, profile: Vec<u8>) -> Answer {
        let answer = Answer(Response::new(Body::from(profile)))
            .with(header::CONTENT_TYPE, BYTES)
            .with(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
        match HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
            Ok(name) => answer.with(header::CONTENT_DISPOSITION, name),
            Err(_) => answer,
        }
    }

    /// The answer to OPTIONS: the allowed methods, if any.
    pub(super) fn options(allow: &'static str) -> Answer {
        let answer = Answer(Response::new(Body::empty()));
        match allow {
            "" => answer,
            allow => answer.with(header::ALLOW, HeaderValue::from_static(allow)),
        }
    }

    /// Redirects to the same request at another path.
    pub(super) fn redirect(method: &Method, location: &str) -> Answer {
        let Ok(value) = HeaderValue::from_bytes(location.as_bytes()) else {
            return HttpError::NotFound.into();
        };
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, value);
        if method == Method::GET {
            headers.insert(header::CONTENT_TYPE, HTML);
            let link = location.replace('&', "&amp;");
            let body = format!("<a href=\"{link}\">Moved Permanently</a>.\n\n");
            *response.body_mut() = Body::from(body);
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        } else {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        }
        Answer(response)
    }

    /// Marks an answer that may miss the changes of this last time.
    pub(super) fn stale(self, staleness: Duration) -> Answer {
        self.with(CONSISTENCY, HeaderValue::from_static("stale"))
            .with(STALENESS, HeaderValue::from(staleness.as_millis() as u64))
    }

    fn nsq(status: StatusCode, body: Body) -> Answer {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Answer(response).with(NSQ_CONTENT_TYPE, NSQ_VERSION)
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.0.headers_mut().insert(name, value);
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.0
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        Answer::from(self).0
    }
}

impl From<HttpError> for Answer {
    fn from(error: HttpError) -> Self {
        let (status, message) = error.status_and_message();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let HttpError::Profile(_) = error {
            let mut answer = Answer::text(message + "\n")
                .with(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF)
                .with(GO_PPROF, HeaderValue::from_static("1"));
            *answer.0.status_mut() = status;
            return answer;
        }
        let body = match error.reason() {
            None => serde_json::json!({ "message": message }),
            Some(reason) => serde_json::json!({ "message": message, "reason": reason }),
        };
        let body = body.to_string();
        let answer = Answer::nsq(status, Body::from(body)).with(header::CONTENT_TYPE, JSON);
        match error {
            HttpError::MethodNotAllowed(allow) => {
                answer.with(header::ALLOW, HeaderValue::from_static(allow))
            }
            HttpError::Busy => answer.with(header::RETRY_AFTER, HeaderValue::from_static("1")),
            HttpError::BodyTooLarge | HttpError::BodyTooSlow => {
                answer.with(header::CONNECTION, HeaderValue::from_static("close"))
            }
            _ => answer,
        }
    }
}
