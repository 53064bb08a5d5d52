//! Answers GET /lookup, which consumers poll: who has a topic.

use axum::extract::State;
use raftlookupd_raft::storage::registration_db::RegistrationDb;

use super::lists::SHORT;
use crate::http::answer::Answer;
use crate::http::arguments::Arguments;
use crate::http::body;
use crate::http::connection::client::Client;
use crate::http::context::Shared;
use crate::http::error::HttpError;
use crate::http::long_answers::Scope;
use crate::http::pages::{self, Sizes};
use crate::http::read::{BARRIER, Consistency, fresh};

/// GET /lookup.
pub(in crate::http) async fn lookup(
    State(context): State<Shared>,
    client: Client,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let topic = arguments.require("topic", "TOPIC")?;
    let read = fresh(&context, Consistency::of(&arguments)?, BARRIER).await?;
    let is_short = |db: &RegistrationDb| db.size_of(&topic) <= SHORT;
    let short = read.short(is_short, |db, lifetimes| {
        let found = body::lookup(db, &topic, lifetimes).ok_or(HttpError::TopicNotFound)?;
        Answer::json(&found)
    });
    if let Some(answer) = short {
        return Ok(answer);
    }
    let long = read.long(
        (&context, &client),
        Scope::Topic,
        move |registry, page, lifetimes| {
            let found = pages::lookup(registry, Sizes::default(), &topic, lifetimes, page)?;
            found.ok_or(HttpError::TopicNotFound)
        },
    );
    Ok(long.await)
}
