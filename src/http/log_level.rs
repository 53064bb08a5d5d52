//! /config/log_level: what the log shows, asked for and changed while the member runs. nsqlookupd
//! has no such thing, so paths, bodies and answers are nsqd's, whose scripts work here too.

use crate::context::Context;
use crate::http::answer::Answer;
use crate::http::error::HttpError;
use crate::logging::LogLevel;

/// The longest value that is looked at, in bytes.
pub(super) const LONGEST_VALUE: usize = 16;

/// GET: the level as nsqd numbers them, 1 (debug) to 5 (fatal).
///
/// # Errors
/// [`HttpError::Internal`] if a number cannot be written.
pub(super) fn show(context: &Context) -> Result<Answer, HttpError> {
    Answer::json(&context.log.level().number())
}

/// PUT: the level's name as body, in any case, without quotes. For this member, until it ends.
///
/// # Errors
/// [`HttpError::ValueSize`], [`HttpError::InvalidValue`].
pub(super) fn change(context: &Context, body: &[u8]) -> Result<Answer, HttpError> {
    if body.is_empty() || body.len() > LONGEST_VALUE {
        return Err(HttpError::ValueSize);
    }
    let name = std::str::from_utf8(body).map_err(|_| HttpError::InvalidValue)?;
    let level: LogLevel = name.parse().map_err(|_| HttpError::InvalidValue)?;
    context.log.set_level(level);
    show(context)
}
