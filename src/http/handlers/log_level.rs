//! Answers /config/log_level: shows and changes what the log shows. nsqlookupd has no such
//! endpoint, so path, bodies and answers are nsqd's, and scripts for nsqd work here too.

use axum::body::Bytes;
use axum::extract::State;

use crate::http::answer::Answer;
use crate::http::context::Shared;
use crate::http::error::HttpError;
use crate::http::limits::KEPT;
use crate::logging::LogLevel;

/// Longer values are refused without being looked at, in bytes.
const LONGEST_VALUE: usize = 16;

// Otherwise the beginning of a longer body could be taken for a value.
const _: () = assert!(KEPT > LONGEST_VALUE);

/// GET: the level as nsqd numbers them, 1 (debug) to 5 (fatal).
///
/// # Errors
/// [`HttpError::Internal`] if a number cannot be written.
pub(in crate::http) async fn show(State(context): State<Shared>) -> Result<Answer, HttpError> {
    Answer::json(&context.log.level().number())
}

/// PUT: the level's name as body, in any case, without quotes. Holds until this member ends.
///
/// # Errors
/// [`HttpError::ValueSize`], [`HttpError::InvalidValue`].
pub(in crate::http) async fn change(
    State(context): State<Shared>,
    body: Bytes,
) -> Result<Answer, HttpError> {
    if body.is_empty() || body.len() > LONGEST_VALUE {
        return Err(HttpError::ValueSize);
    }
    let name = std::str::from_utf8(&body).map_err(|_| HttpError::InvalidValue)?;
    let level: LogLevel = name.parse().map_err(|_| HttpError::InvalidValue)?;
    context.log.set_level(level);
    Answer::json(&level.number())
}
