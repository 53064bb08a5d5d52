//! Writes long answers page by page, with the same bytes as [`body`](super::body) would.
//!
//! Each page is a short read of the registry: a page never delays the state machine or other readers
//! by more than a millisecond. Changes between two pages show in the later one only: a producer that
//! leaves and comes back, or moves to another member, may be missing or there twice.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use raftlookupd_raft::Registry;
use raftlookupd_raft::storage::registration_db::{
    Lifetimes, NodePage, ProducerCopy, RegistrationDb,
};

use crate::http::body::{DebugProducer, Producer};
use crate::http::long_answers::{NoAnswer, Page};

/// Names or claims in one page.
const NAMES: usize = 500;

/// Producers, or nodes and their topics, in one page.
const PRODUCERS: usize = 200;

/// Where pages are read from.
pub(super) trait Source {
    /// Runs a short query.
    fn read<T>(&self, query: impl FnOnce(&RegistrationDb) -> T) -> T;
}

impl Source for Registry {
    fn read<T>(&self, query: impl FnOnce(&RegistrationDb) -> T) -> T {
        Registry::read(self, query)
    }
}

/// How much is in one page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    names: usize,
    producers: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            names: NAMES,
            producers: PRODUCERS,
        }
    }
}

/// GET /topics.
pub(super) fn topics(source: &impl Source, sizes: Sizes, page: &mut Page) -> Result<(), NoAnswer> {
    page.raw(b"{\"topics\":");
    let after = |last: Option<&str>| Some(source.read(|db| db.topics_after(last, sizes.names)));
    names(after, page)?;
    page.raw(b"}");
    Ok(())
}

/// GET /channels.
pub(super) fn channels(
    source: &impl Source,
    sizes: Sizes,
    topic: &str,
    page: &mut Page,
) -> Result<(), NoAnswer> {
    page.raw(b"{\"channels\":");
    names(channels_of(source, sizes, topic), page)?;
    page.raw(b"}");
    Ok(())
}

/// GET /lookup; `None` if the topic is not listed.
pub(super) fn lookup(
    source: &impl Source,
    sizes: Sizes,
    topic: &str,
    lifetimes: Lifetimes,
    page: &mut Page,
) -> Result<Option<()>, NoAnswer> {
    let mut numbers = BTreeSet::new();
    let mut behind = None;
    loop {
        let listed = |db: &RegistrationDb| db.listed_after(topic, behind, lifetimes, sizes.names);
        let Some((some, next)) = source.read(listed) else {
            return Ok(None);
        };
        numbers.extend(some);
        page.done()?;
        if next.is_none() {
            break;
        }
        behind = next;
    }
    page.raw(b"{\"channels\":");
    names(channels_of(source, sizes, topic), page)?;
    page.raw(b",\"producers\":[");
    let numbers: Vec<_> = numbers.into_iter().collect();
    let mut first = true;
    for some in numbers.chunks(sizes.producers) {
        for copy in source.read(|db| db.listed_copies(topic, some, lifetimes)) {
            comma(&mut first, page);
            page.json(&Producer::from(&copy));
        }
        page.done()?;
    }
    page.raw(b"]}");
    Ok(Some(()))
}

/// GET /nodes.
pub(super) fn nodes(
    source: &impl Source,
    sizes: Sizes,
    lifetimes: Lifetimes,
    page: &mut Page,
) -> Result<(), NoAnswer> {
    page.raw(b"{\"producers\":[");
    let mut first = true;
    let mut behind = None;
    loop {
        let (nodes, next) = source.read(|db| db.nodes_after(behind, lifetimes, sizes.producers));
        for mut node in nodes {
            complete(source, sizes, lifetimes, &mut node, page)?;
            comma(&mut first, page);
            write_node(&node, page);
            page.done()?;
        }
        page.done()?;
        if next.is_none() {
            break;
        }
        behind = next;
    }
    page.raw(b"]}");
    Ok(())
}

/// GET /debug. Keys are sorted as strings: channels, clients, topics.
pub(super) fn debug(source: &impl Source, sizes: Sizes, page: &mut Page) -> Result<(), NoAnswer> {
    let mut topics: Vec<Arc<str>> = Vec::new();
    loop {
        let last = topics.last().map(|name| &**name);
        let some = source.read(|db| db.topics_after(last, sizes.names));
        page.done()?;
        if some.is_empty() {
            break;
        }
        topics.extend(some);
    }
    topics.sort_unstable_by(|a, b| before_colon(a, b));
    let mut first = true;
    page.raw(b"{");
    for topic in &topics {
        let mut last: Option<Arc<str>> = None;
        loop {
            let after =
                |db: &RegistrationDb| db.channels_after(topic, last.as_deref(), sizes.names);
            let Some(channels) = source.read(after).filter(|some| !some.is_empty()) else {
                break;
            };
            for channel in &channels {
                debug_entry(source, sizes, topic, Some(channel), &mut first, page)?;
            }
            last = channels.last().cloned();
        }
    }
    clients(source, sizes, &mut first, page)?;
    for topic in &topics {
        debug_entry(source, sizes, topic, None, &mut first, page)?;
    }
    page.raw(b"}");
    Ok(())
}

fn clients(
    source: &impl Source,
    sizes: Sizes,
    first: &mut bool,
    page: &mut Page,
) -> Result<(), NoAnswer> {
    let mut behind = None;
    let mut none = true;
    loop {
        let some = source.read(|db| db.clients_after(behind, sizes.producers));
        let Some((last, _)) = some.last() else {
            break;
        };
        behind = Some(*last);
        for copy in some.into_iter().filter_map(|(_, copy)| copy) {
            if none {
                comma(first, page);
                page.raw(b"\"client::\":[");
            }
            comma(&mut none, page);
            page.json(&DebugProducer::from((&copy, None)));
        }
        page.done()?;
    }
    if !none {
        page.raw(b"]");
    }
    Ok(())
}

fn debug_entry(
    source: &impl Source,
    sizes: Sizes,
    topic: &str,
    channel: Option<&Arc<str>>,
    first: &mut bool,
    page: &mut Page,
) -> Result<(), NoAnswer> {
    let channel = channel.map(|channel| &**channel);
    let mut numbers = BTreeSet::new();
    let mut behind = None;
    loop {
        let claims = |db: &RegistrationDb| db.claimants_after(topic, channel, behind, sizes.names);
        let Some((some, next)) = source.read(claims) else {
            break;
        };
        numbers.extend(some);
        page.done()?;
        if next.is_none() {
            break;
        }
        behind = next;
    }
    let numbers: Vec<_> = numbers.into_iter().collect();
    let mut none = true;
    for some in numbers.chunks(sizes.producers) {
        let copies = |db: &RegistrationDb| db.debug_copies(topic, channel, some);
        for (copy, tombstoned_at) in source.read(copies) {
            if none {
                let category = if channel.is_some() {
                    "channel"
                } else {
                    "topic"
                };
                let subkey = channel.unwrap_or_default();
                comma(first, page);
                page.json(&format!("{category}:{topic}:{subkey}"));
                page.raw(b":[");
            }
            comma(&mut none, page);
            page.json(&DebugProducer::from((&copy, tombstoned_at)));
        }
        page.done()?;
    }
    if !none {
        page.raw(b"]");
    }
    page.done()
}

/// Adds the topics that did not fit into the node's page. All are needed before the node is written,
/// since its tombstones come before its topics.
fn complete(
    source: &impl Source,
    sizes: Sizes,
    lifetimes: Lifetimes,
    node: &mut NodePage,
    page: &mut Page,
) -> Result<(), NoAnswer> {
    while node.more {
        let last = node.topics.last().map(|(name, _)| name.clone());
        let (number, most) = (node.number, sizes.producers);
        let next = source.read(|db| db.node_topics_after(number, last.as_deref(), lifetimes, most));
        // The number may have passed to another producer.
        let next = next.filter(|next| next.producer.id == node.producer.id);
        node.more = next.as_ref().is_some_and(|next| next.more);
        node.topics
            .extend(next.into_iter().flat_map(|next| next.topics));
        page.done()?;
    }
    Ok(())
}

fn write_node(node: &NodePage, page: &mut Page) {
    let tombstones: Vec<bool> = node
        .topics
        .iter()
        .map(|(_, tombstoned)| *tombstoned)
        .collect();
    let topics: Vec<&str> = node.topics.iter().map(|(name, _)| &**name).collect();
    page.json(&super::body::Node {
        producer: Producer::from(&node.producer),
        tombstones,
        topics,
    });
}

fn channels_of<'a, S: Source>(
    source: &'a S,
    sizes: Sizes,
    topic: &'a str,
) -> impl Fn(Option<&str>) -> Option<Vec<Arc<str>>> + use<'a, S> {
    move |last: Option<&str>| source.read(|db| db.channels_after(topic, last, sizes.names))
}

/// A list of names, page after page until one is empty.
fn names(
    after: impl Fn(Option<&str>) -> Option<Vec<Arc<str>>>,
    page: &mut Page,
) -> Result<(), NoAnswer> {
    page.raw(b"[");
    let mut first = true;
    let mut last: Option<Arc<str>> = None;
    while let Some(some) = after(last.as_deref()).filter(|some| !some.is_empty()) {
        for name in &some {
            comma(&mut first, page);
            page.json(&**name);
        }
        last = some.last().cloned();
        page.done()?;
    }
    page.raw(b"]");
    Ok(())
}

fn comma(first: &mut bool, page: &mut Page) {
    if !std::mem::take(first) {
        page.raw(b",");
    }
}

/// The order of names that a colon follows: `a-b:` comes before `a:`.
fn before_colon(a: &str, b: &str) -> Ordering {
    let colon = std::iter::once(b':');
    a.bytes().chain(colon.clone()).cmp(b.bytes().chain(colon))
}

impl<'a> From<&'a ProducerCopy> for Producer<'a> {
    fn from(copy: &'a ProducerCopy) -> Self {
        Producer::from(copy.view())
    }
}

impl<'a> From<(&'a ProducerCopy, Option<u64>)> for DebugProducer<'a> {
    fn from((copy, tombstoned_at): (&'a ProducerCopy, Option<u64>)) -> Self {
        DebugProducer::from((copy.view(), tombstoned_at))
    }
}

#[cfg(test)]
mod tests;
