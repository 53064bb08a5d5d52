//! Answers the lists: topics, channels, nodes, and everything (GET /debug).

use std::time::Duration;

use axum::extract::State;
use raftlookupd_raft::storage::registration_db::RegistrationDb;

use crate::http::answer::Answer;
use crate::http::arguments::Arguments;
use crate::http::body;
use crate::http::connection::client::Client;
use crate::http::context::Shared;
use crate::http::error::HttpError;
use crate::http::long_answers::Scope;
use crate::http::pages::{self, Sizes};
use crate::http::read::{BARRIER, Consistency, fresh};

/// An answer about producers with at most this many names and claims behind it is built inline.
pub(super) const SHORT: usize = 500;

/// A list of at most this many names is built inline.
const SHORT_LIST: usize = 1000;

/// Deadline of the barrier for /channels. nsqd requests the channels of a new topic before it
/// accepts the topic's first message, and goes on without those that it does not learn in time.
const CHANNELS_BARRIER: Duration = Duration::from_millis(400);

/// GET /topics.
pub(in crate::http) async fn topics(
    State(context): State<Shared>,
    client: Client,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    let read = fresh(&context, consistency, BARRIER).await?;
    let is_short = |db: &RegistrationDb| db.topics().len() <= SHORT_LIST;
    if let Some(answer) = read.short(is_short, |db, _| Answer::json(&body::topics(db))) {
        return Ok(answer);
    }
    let long = read.long((&context, &client), Scope::Registry, |registry, page, _| {
        Ok(pages::topics(registry, Sizes::default(), page)?)
    });
    Ok(long.await)
}

/// GET /channels.
pub(in crate::http) async fn channels(
    State(context): State<Shared>,
    client: Client,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let topic = arguments.require("topic", "TOPIC")?;
    let read = fresh(&context, Consistency::of(&arguments)?, CHANNELS_BARRIER).await?;
    let is_short = |db: &RegistrationDb| {
        let channels = db.channels(&topic);
        channels.is_none_or(|channels| channels.len() <= SHORT_LIST)
    };
    if let Some(answer) = read.short(is_short, |db, _| Answer::json(&body::channels(db, &topic))) {
        return Ok(answer);
    }
    let long = read.long(
        (&context, &client),
        Scope::Topic,
        move |registry, page, _| Ok(pages::channels(registry, Sizes::default(), &topic, page)?),
    );
    Ok(long.await)
}

/// GET /nodes.
pub(in crate::http) async fn nodes(
    State(context): State<Shared>,
    client: Client,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    let read = fresh(&context, consistency, BARRIER).await?;
    let short = read.short(is_small, |db, lifetimes| {
        Answer::json(&body::nodes(db, lifetimes))
    });
    if let Some(answer) = short {
        return Ok(answer);
    }
    let long = read.long(
        (&context, &client),
        Scope::Registry,
        |registry, page, lifetimes| Ok(pages::nodes(registry, Sizes::default(), lifetimes, page)?),
    );
    Ok(long.await)
}

/// GET /debug.
pub(in crate::http) async fn debug(
    State(context): State<Shared>,
    client: Client,
    consistency: Consistency,
) -> Result<Answer, HttpError> {
    let read = fresh(&context, consistency, BARRIER).await?;
    if let Some(answer) = read.short(is_small, |db, _| Answer::json(&body::debug(db))) {
        return Ok(answer);
    }
    let long = read.long((&context, &client), Scope::Registry, |registry, page, _| {
        Ok(pages::debug(registry, Sizes::default(), page)?)
    });
    Ok(long.await)
}

/// Whether answers about the whole registry are short.
fn is_small(db: &RegistrationDb) -> bool {
    let totals = db.totals();
    totals.topics + totals.channels + totals.producers + totals.claims <= SHORT
}
