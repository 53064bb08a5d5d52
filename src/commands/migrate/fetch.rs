//! Reads everything that a registry lists.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::in_flight;
use super::inventory::{Inventory, Listing, Producer, Topic};
use super::lookupd::Lookupd;
use super::progress::{Progress, note};
use crate::error::{Error, Result};
use crate::nsqd::protocol::names::is_valid_name;

/// The longest list of topics, or of producers with their topics, in bytes.
const LONGEST_LIST: usize = 64 << 20;

/// The longest list of one topic's channels, in bytes: more than 100,000 channels.
const LONGEST_CHANNELS: usize = 8 << 20;

/// The most topics and channels of one registry. All of them are held in memory.
const MOST_NAMES: usize = 5_000_000;

/// How many invalid names are shown, and how much of each, in characters.
const ODD_NAMES: (usize, usize) = (10, 64);

#[derive(Deserialize)]
struct Topics {
    topics: Vec<String>,
}

#[derive(Deserialize)]
struct Channels {
    channels: Vec<String>,
}

#[derive(Deserialize)]
struct Nodes {
    producers: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    broadcast_address: String,
    tcp_port: i64,
    http_port: i64,
    topics: Vec<String>,
    /// In the order of the topics.
    tombstones: Vec<bool>,
}

/// Invalid names, which are skipped.
#[derive(Default)]
struct Odd {
    count: usize,
    shown: Vec<String>,
}

/// Reads everything that the registry lists; notes call it `name`.
///
/// # Errors
/// [`Error::Lookupd`] if something cannot be read, or is too large.
pub(super) async fn inventory(registry: &Lookupd, name: &str) -> Result<Inventory> {
    // Producers first: the lists that are read later contain whatever they have registered.
    let nodes: Nodes = registry.get("/nodes", &[], LONGEST_LIST).await?;
    let Topics { topics } = registry.get("/topics", &[], LONGEST_LIST).await?;
    let mut odd = Odd::default();
    let topics: BTreeSet<String> = odd.without(topics).into_iter().collect();

    let mut inventory = Inventory::default();
    let mut names = topics.len();
    let mut progress = Progress::new(format!("reading {name}, topics"), topics.len());
    let read = |topic: String| {
        let registry = registry.clone();
        async move {
            let arguments = [("topic", topic.as_str())];
            let read: Channels = registry
                .get("/channels", &arguments, LONGEST_CHANNELS)
                .await?;
            Ok((topic, read.channels))
        }
    };
    in_flight::each(topics, read, |(topic, channels)| {
        let channels = odd.without(channels);
        names += channels.len();
        if names > MOST_NAMES {
            let what = format!("{name}: more than {MOST_NAMES} topics and channels");
            return Err(Error::Lookupd(what));
        }
        let read = Topic {
            channels: channels.into_iter().collect(),
            ..Topic::default()
        };
        inventory.topics.insert(topic, read);
        progress.step();
        Ok(())
    })
    .await?;
    for node in nodes.producers {
        inventory.list(node);
    }
    odd.note(name);
    Ok(inventory)
}

impl Inventory {
    /// Adds an nsqd to its topics. A topic that is not listed was deleted in between.
    fn list(&mut self, node: Node) {
        for (number, name) in node.topics.iter().enumerate() {
            let Some(topic) = self.topics.get_mut(name) else {
                continue;
            };
            let producer = Producer {
                broadcast_address: node.broadcast_address.clone(),
                tcp_port: node.tcp_port,
            };
            let tombstoned = node.tombstones.get(number).copied().unwrap_or(false);
            let http_port = node.http_port;
            topic.list(
                producer,
                Listing {
                    http_port,
                    tombstoned,
                },
            );
        }
    }
}

impl Odd {
    /// The valid names; the others are noted.
    fn without(&mut self, names: Vec<String>) -> Vec<String> {
        let (valid, odd): (Vec<String>, Vec<String>) = names
            .into_iter()
            .partition(|name| is_valid_name(name.as_bytes()));
        let (most, longest) = ODD_NAMES;
        self.count += odd.len();
        for name in odd.iter().take(most - self.shown.len().min(most)) {
            let start: String = name.chars().take(longest).collect();
            self.shown.push(format!("{start:?}"));
        }
        valid
    }

    fn note(&self, name: &str) {
        if self.count > 0 {
            let (count, shown) = (self.count, self.shown.join(", "));
            note(&format!(
                "{name}: skipped {count} invalid names, such as {shown}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::migrate::difference::tests::inventory;

    #[test]
    fn producers_and_their_tombstones() {
        let mut read = inventory(&["a: x", "b:"]);
        let nodes = r#"{"producers":[
            {"remote_address":"1.2.3.4:5","hostname":"h","broadcast_address":"h","tcp_port":1,
             "http_port":2,"version":"1.3.0","tombstones":[false,true,false],"topics":["a","b","gone"]},
            {"broadcast_address":"h","tcp_port":1,"http_port":2,"tombstones":[false],"topics":["b"]},
            {"broadcast_address":"i","tcp_port":1,"http_port":2,"tombstones":[],"topics":["a"]}]}"#;
        let nodes: Nodes = serde_json::from_str(nodes).unwrap();
        nodes.producers.into_iter().for_each(|node| read.list(node));
        assert_eq!(read, inventory(&["a: x +h:1 +i:1", "b: -h:1"]));
    }

    #[test]
    fn odd_names_are_left_out() {
        let mut odd = Odd::default();
        let long = "ä".repeat(1000);
        let names = ["a", "*", "b#ephemeral", "c d", &long].map(String::from);
        assert_eq!(odd.without(names.to_vec()), ["a", "b#ephemeral"]);
        assert_eq!(odd.count, 3);
        assert_eq!(odd.shown[..2], [r#""*""#, r#""c d""#]);
        assert_eq!(odd.shown[2].chars().count(), 64 + 2);
        odd.without(vec!["*".into(); 100]);
        assert_eq!((odd.count, odd.shown.len()), (103, 10));
    }
}
