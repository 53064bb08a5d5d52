//! /config/log_level, by nsqd's convention: GET tells the level, PUT changes it.

use axum::body::Bytes;

use crate::http::answer::Answer;
use crate::http::error::HttpError;
use crate::logging::{self, LogLevel};

/// The level as a JSON string.
pub(super) fn get() -> Result<Answer, HttpError> {
    Answer::json(logging::level().name())
}

/// Until this member is restarted; the body is the level.
///
/// # Errors
/// [`HttpError::InvalidValue`] if there is no such level.
pub(super) fn put(body: &Bytes) -> Result<Answer, HttpError> {
    let text = std::str::from_utf8(body).map_err(|_| HttpError::InvalidValue)?;
    let level: LogLevel = text.trim().parse().map_err(|_| HttpError::InvalidValue)?;
    let before = logging::level();
    logging::set_level(level);
    // A warning, so that it is seen at most levels.
    tracing::warn!(
        from = before.name(),
        to = level.name(),
        "log level changed over HTTP"
    );
    get()
}
