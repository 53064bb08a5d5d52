//! Events as text, for scripts and traces.

use raftlookupd_raft::storage::event::{Event, Proposal};

pub fn name(topic: &str, channel: Option<&str>) -> String {
    match channel {
        Some(channel) => format!("{topic}/{channel}"),
        None => topic.to_string(),
    }
}

pub fn event(event: &Event) -> String {
    match event {
        Event::Attach { producer, .. } => format!("attach {}", producer.broadcast_address),
        Event::Claim {
            producer,
            topic,
            channel,
        } => {
            let name = name(topic, channel.as_deref());
            format!("claim {} {name}", producer.broadcast_address)
        }
        Event::Release {
            producer,
            topic,
            channel,
        } => {
            let name = name(topic, channel.as_deref());
            format!("release {} {name}", producer.broadcast_address)
        }
        Event::Detach { producer, .. } => format!("detach {}", producer.broadcast_address),
        Event::SetActive { producer, active } => {
            let what = if *active { "show" } else { "hide" };
            format!("{what} {}", producer.broadcast_address)
        }
        Event::CreateTopic { topic } => format!("create {topic}"),
        Event::DeleteTopic { topic } => format!("delete {topic}"),
        Event::CreateChannel { topic, channel } => format!("create {topic}/{channel}"),
        Event::DeleteChannel { topic, channel } => format!("delete {topic}/{channel}"),
        Event::Tombstone { topic, node, .. } => format!("tombstone {topic} {node}"),
        Event::Away { member, .. } => format!("away {member}"),
        Event::Expire { producer, .. } => format!("expire {}", producer.broadcast_address),
        Event::ExpireName {
            producer,
            topic,
            channel,
            ..
        } => {
            let name = name(topic, channel.as_deref());
            format!("expire {} {name}", producer.broadcast_address)
        }
        Event::RemoveMember { member } => format!("remove member {member}"),
        Event::Sweep => "sweep".to_string(),
    }
}

/// In order, with commas.
pub fn events(events: &[Event]) -> String {
    let events: Vec<String> = events.iter().map(event).collect();
    events.join(", ")
}

/// An entry of the log: `m1 2.7: claim h1 orders; expire h2`.
pub fn proposal(proposal: &Proposal) -> String {
    let batches = proposal.batches.iter().map(|batch| {
        let (incarnation, sequence) = (batch.incarnation, batch.sequence);
        let events = events(&batch.events);
        format!("m{} {incarnation}.{sequence}: {events}", batch.member)
    });
    let mut parts: Vec<String> = batches.collect();
    if !proposal.own.is_empty() {
        parts.push(events(&proposal.own));
    }
    parts.join("; ")
}
