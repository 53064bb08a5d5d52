//! The reads: who has what.

use std::collections::BTreeMap;
use std::time::Duration;

use raftlookupd_raft::storage::registration_db::RegistrationDb;

use crate::context::Context;
use crate::http::answer::Answer;
use crate::http::body;
use crate::http::client::Client;
use crate::http::error::HttpError;
use crate::http::long_answers::Scope;
use crate::http::pages::{self, Sizes};
use crate::http::query::Query;
use crate::http::read::{BARRIER, Consistency, fresh};

/// Names in an answer that is built inline.
const SHORT_LIST: usize = 1000;

/// Names and claims behind an answer about producers that is built inline.
const SHORT: usize = 500;

/// nsqd asks for the channels of a new topic before it lets the first message in, and goes on
/// without those that it does not learn in time.
const CHANNELS: Duration = Duration::from_millis(400);

/// GET /info: upstream's only field.
pub(super) fn info(context: &Context) -> Result<Answer, HttpError> {
    Answer::json(&BTreeMap::from([("version", &context.version)]))
}

/// GET /topics.
pub(super) async fn topics(
    context: &Context,
    client: &Client,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    let read = fresh(context, consistency, BARRIER).await?;
    let is_short = |db: &RegistrationDb| db.topics().len() <= SHORT_LIST;
    if let Some(answer) = read.short(is_short, |db, _| Answer::json(&body::topics(db))) {
        return Ok(answer);
    }
    let long = read.long((context, client), Scope::Registry, |registry, page, _| {
        Ok(pages::topics(registry, Sizes::default(), page)?)
    });
    Ok(long.await)
}

/// GET /channels.
pub(super) async fn channels(
    context: &Context,
    client: &Client,
    query: &Query,
) -> Result<Answer, HttpError> {
    let topic = query.require("topic", "TOPIC")?;
    let read = fresh(context, Consistency::in_query(query)?, CHANNELS).await?;
    let is_short = |db: &RegistrationDb| {
        let channels = db.channels(&topic);
        channels.is_none_or(|channels| channels.len() <= SHORT_LIST)
    };
    if let Some(answer) = read.short(is_short, |db, _| Answer::json(&body::channels(db, &topic))) {
        return Ok(answer);
    }
    let long = read.long((context, client), Scope::Topic, move |registry, page, _| {
        Ok(pages::channels(registry, Sizes::default(), &topic, page)?)
    });
    Ok(long.await)
}

/// GET /lookup.
pub(super) async fn lookup(
    context: &Context,
    client: &Client,
    query: &Query,
) -> Result<Answer, HttpError> {
    let topic = query.require("topic", "TOPIC")?;
    let read = fresh(context, Consistency::in_query(query)?, BARRIER).await?;
    let is_short = |db: &RegistrationDb| db.size_of(&topic) <= SHORT;
    let short = read.short(is_short, |db, lifetimes| {
        let found = body::lookup(db, &topic, lifetimes).ok_or(HttpError::TopicNotFound)?;
        Answer::json(&found)
    });
    if let Some(answer) = short {
        return Ok(answer);
    }
    let long = read.long(
        (context, client),
        Scope::Topic,
        move |registry, page, lifetimes| {
            let found = pages::lookup(registry, Sizes::default(), &topic, lifetimes, page)?;
            found.ok_or(HttpError::TopicNotFound)
        },
    );
    Ok(long.await)
}

/// GET /nodes.
pub(super) async fn nodes(
    context: &Context,
    client: &Client,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    let read = fresh(context, consistency, BARRIER).await?;
    let short = read.short(is_small, |db, lifetimes| {
        Answer::json(&body::nodes(db, lifetimes))
    });
    if let Some(answer) = short {
        return Ok(answer);
    }
    let long = read.long(
        (context, client),
        Scope::Registry,
        |registry, page, lifetimes| Ok(pages::nodes(registry, Sizes::default(), lifetimes, page)?),
    );
    Ok(long.await)
}

/// GET /debug.
pub(super) async fn debug(
    context: &Context,
    client: &Client,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    let read = fresh(context, consistency, BARRIER).await?;
    if let Some(answer) = read.short(is_small, |db, _| Answer::json(&body::debug(db))) {
        return Ok(answer);
    }
    let long = read.long((context, client), Scope::Registry, |registry, page, _| {
        Ok(pages::debug(registry, Sizes::default(), page)?)
    });
    Ok(long.await)
}

/// Whether answers about the whole registry are short.
fn is_small(db: &RegistrationDb) -> bool {
    let totals = db.totals();
    totals.topics + totals.channels + totals.producers + totals.claims <= SHORT
}
