//! The reads: who has what.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::context::Context;
use crate::http::answer::Answer;
use crate::http::body;
use crate::http::error::HttpError;
use crate::http::query::Query;
use crate::http::read::{Consistency, read, read_within};

/// GET /info: upstream's only field.
pub(super) fn info(context: &Context) -> Result<Answer, HttpError> {
    Answer::json(&BTreeMap::from([("version", &context.version)]))
}

/// GET /topics.
pub(super) async fn topics(
    context: &Context,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    read(context, consistency, |db, _| {
        Answer::json(&body::topics(db))
    })
    .await
}

/// nsqd asks for the channels of a new topic before it lets the first message in, and goes on
/// without those that it does not hear of in time.
const CHANNELS: Duration = Duration::from_millis(400);

/// GET /channels.
pub(super) async fn channels(context: &Context, query: &Query) -> Result<Answer, HttpError> {
    let topic = query.require("topic", "TOPIC")?;
    read_within(context, Consistency::in_query(query)?, CHANNELS, |db, _| {
        Answer::json(&body::channels(db, &topic))
    })
    .await
}

/// GET /lookup.
pub(super) async fn lookup(context: &Context, query: &Query) -> Result<Answer, HttpError> {
    let topic = query.require("topic", "TOPIC")?;
    read(context, Consistency::in_query(query)?, |db, lifetimes| {
        let found = body::lookup(db, &topic, lifetimes).ok_or(HttpError::TopicNotFound)?;
        Answer::json(&found)
    })
    .await
}

/// GET /nodes.
pub(super) async fn nodes(
    context: &Context,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    read(context, consistency, |db, lifetimes| {
        Answer::json(&body::nodes(db, lifetimes))
    })
    .await
}

/// GET /debug.
pub(super) async fn debug(
    context: &Context,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    read(context, consistency, |db, _| Answer::json(&body::debug(db))).await
}
