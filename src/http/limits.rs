//! Reads the body of each request before its handler runs, within a limit of size and a deadline.
//!
//! nsqlookupd ignores bodies. They are read to their end all the same, so that the connection can
//! carry the next request, and so that a request that was not received completely does nothing.

use std::error::Error;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::Service;

use crate::http::error::HttpError;

/// Longer bodies are refused.
const LONGEST_BODY: usize = 1024 * 1024;

/// A body that has not arrived by then is refused.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// How much of a body is kept for its handler: enough to see that it is longer than any value.
/// Whole bodies of many clients at once would take too much memory.
pub(super) const KEPT: usize = 64;

type BoxError = Box<dyn Error + Send + Sync>;

/// Hands on requests whose bodies have arrived. The inner service must always be ready, as
/// axum's `Router` is.
#[derive(Debug, Clone)]
pub(super) struct BodyLimit<S>(S);

impl<S> BodyLimit<S> {
    pub(super) fn new(inner: S) -> Self {
        BodyLimit(inner)
    }
}

impl<S, B> Service<http::Request<B>> for BodyLimit<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let mut inner = self.0.clone();
        Box::pin(async move {
            match with_body_read(request).await {
                Ok(request) => inner.call(request).await,
                Err(error) => Ok(error.into_response()),
            }
        })
    }
}

/// # Errors
/// [`HttpError::BodyTooLarge`], [`HttpError::BodyTooSlow`], [`HttpError::InvalidRequest`].
async fn with_body_read<B>(request: http::Request<B>) -> Result<Request, HttpError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(head, Body::empty()));
    }
    if body.size_hint().lower() > LONGEST_BODY as u64 {
        return Err(HttpError::BodyTooLarge);
    }
    let beginning = beginning_of(Limited::new(body, LONGEST_BODY));
    match tokio::time::timeout(BODY_DEADLINE, beginning).await {
        Ok(Ok(beginning)) => Ok(Request::from_parts(head, Body::from(beginning))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(HttpError::BodyTooLarge),
        Ok(Err(_)) => Err(HttpError::InvalidRequest),
        Err(_) => Err(HttpError::BodyTooSlow),
    }
}

/// Reads a body to its end and keeps its beginning.
async fn beginning_of<B>(body: Limited<B>) -> Result<Vec<u8>, BoxError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            let room = KEPT - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(kept)
}
