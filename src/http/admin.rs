//! The writes: topics and channels by hand, and tombstones.

use std::time::Duration;

use raftlookupd_raft::storage::event::Event;

use crate::context::Context;
use crate::http::answer::Answer;
use crate::http::error::HttpError;
use crate::http::query::Query;
use crate::nsqd::protocol::identify::LONGEST_TEXTS;
use crate::nsqd::protocol::names::is_valid_name;

/// How long a write may take before its outcome is called unknown. nsqadmin gives 5 seconds.
const WRITE: Duration = Duration::from_secs(2);

/// A broadcast address, a colon, and an HTTP port of up to 20 characters.
const LONGEST_NODE: usize = LONGEST_TEXTS + 21;

/// POST /topic/create.
pub(super) async fn create_topic(context: &Context, query: &Query) -> Result<Answer, HttpError> {
    let topic = query.require_name("topic", "TOPIC")?;
    write(context, Event::CreateTopic { topic }).await
}

/// POST /topic/delete: also of topics that are not listed, or could not be.
pub(super) async fn delete_topic(context: &Context, query: &Query) -> Result<Answer, HttpError> {
    let topic = query.require("topic", "TOPIC")?;
    if !is_valid_name(topic.as_bytes()) {
        // There is none, and a name of any length need not pass through every member's log.
        return Ok(Answer::empty());
    }
    write(context, Event::DeleteTopic { topic }).await
}

/// POST /channel/create.
pub(super) async fn create_channel(context: &Context, query: &Query) -> Result<Answer, HttpError> {
    let (topic, channel) = topic_and_channel(query)?;
    write(context, Event::CreateChannel { topic, channel }).await
}

/// POST /channel/delete.
pub(super) async fn delete_channel(context: &Context, query: &Query) -> Result<Answer, HttpError> {
    let (topic, channel) = topic_and_channel(query)?;
    write(context, Event::DeleteChannel { topic, channel }).await
}

/// POST /topic/tombstone: also where nothing matches.
pub(super) async fn tombstone(context: &Context, query: &Query) -> Result<Answer, HttpError> {
    let topic = query.require("topic", "TOPIC")?;
    let node = query.require("node", "NODE")?;
    if !is_valid_name(topic.as_bytes()) || node.len() > LONGEST_NODE {
        // As above.
        return Ok(Answer::empty());
    }
    let registry = context.registry().await?;
    // Afterwards the time is the leader's.
    registry.barrier(WRITE).await?;
    let at = registry.now();
    write(context, Event::Tombstone { topic, node, at }).await
}

fn topic_and_channel(query: &Query) -> Result<(String, String), HttpError> {
    let topic = query.require_name("topic", "TOPIC")?;
    let channel = query.require_name("channel", "CHANNEL")?;
    Ok((topic, channel))
}

async fn write(context: &Context, event: Event) -> Result<Answer, HttpError> {
    tracing::info!(?event, "asked for over HTTP");
    context.registry().await?.write(event, WRITE).await?;
    Ok(Answer::empty())
}
