//! Answers the changes: creates and deletes topics and channels, and tombstones producers.

use std::time::Duration;

use axum::extract::State;
use raftlookupd_raft::storage::event::Event;

use crate::http::answer::Answer;
use crate::http::arguments::Arguments;
use crate::http::context::{Context, Shared};
use crate::http::error::HttpError;
use crate::nsqd::protocol::identify::LONGEST_TEXTS;
use crate::nsqd::protocol::names::is_valid_name;

/// After this long the outcome of a change is reported as unknown. nsqadmin waits 5 seconds.
const CHANGE: Duration = Duration::from_secs(2);

/// A broadcast address, a colon, and an HTTP port of up to 20 characters.
const LONGEST_NODE: usize = LONGEST_TEXTS + 21;

/// POST /topic/create.
pub(in crate::http) async fn create_topic(
    State(context): State<Shared>,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let topic = arguments.require_name("topic", "TOPIC")?;
    change(&context, Event::CreateTopic { topic }).await
}

/// POST /topic/delete. As in nsqlookupd, any name will do, listed or not.
pub(in crate::http) async fn delete_topic(
    State(context): State<Shared>,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let topic = arguments.require("topic", "TOPIC")?;
    if !is_valid_name(topic.as_bytes()) {
        // No such topic exists, and a name of any length must not enter every member's log.
        return Ok(Answer::empty());
    }
    change(&context, Event::DeleteTopic { topic }).await
}

/// POST /channel/create.
pub(in crate::http) async fn create_channel(
    State(context): State<Shared>,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let (topic, channel) = topic_and_channel(&arguments)?;
    change(&context, Event::CreateChannel { topic, channel }).await
}

/// POST /channel/delete.
pub(in crate::http) async fn delete_channel(
    State(context): State<Shared>,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let (topic, channel) = topic_and_channel(&arguments)?;
    change(&context, Event::DeleteChannel { topic, channel }).await
}

/// POST /topic/tombstone. Succeeds also if nothing matches.
pub(in crate::http) async fn tombstone(
    State(context): State<Shared>,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let topic = arguments.require("topic", "TOPIC")?;
    let node = arguments.require("node", "NODE")?;
    if !is_valid_name(topic.as_bytes()) || node.len() > LONGEST_NODE {
        // As in `delete_topic`.
        return Ok(Answer::empty());
    }
    let registry = context.registry().await?;
    // Afterwards the time is the leader's.
    registry.barrier(CHANGE).await?;
    let at = registry.now();
    change(&context, Event::Tombstone { topic, node, at }).await
}

fn topic_and_channel(arguments: &Arguments) -> Result<(String, String), HttpError> {
    let topic = arguments.require_name("topic", "TOPIC")?;
    let channel = arguments.require_name("channel", "CHANNEL")?;
    Ok((topic, channel))
}

async fn change(context: &Context, event: Event) -> Result<Answer, HttpError> {
    log(&event);
    context.registry().await?.write(event, CHANGE).await?;
    Ok(Answer::empty())
}

fn log(event: &Event) {
    let (change, topic, channel, node) = match event {
        Event::CreateTopic { topic } => ("create topic", topic, None, None),
        Event::DeleteTopic { topic } => ("delete topic", topic, None, None),
        Event::CreateChannel { topic, channel } => ("create channel", topic, Some(channel), None),
        Event::DeleteChannel { topic, channel } => ("delete channel", topic, Some(channel), None),
        Event::Tombstone { topic, node, .. } => ("tombstone", topic, None, Some(node)),
        // Members propose the others for their sessions.
        _ => return,
    };
    tracing::info!(change, topic, channel, node, "change requested over HTTP");
}
