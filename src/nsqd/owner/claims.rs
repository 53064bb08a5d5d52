//! Holds the names that a session has registered: topics, each with channels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use raftlookupd_raft::storage::registration_db::Name;

/// Channels of one topic.
pub(super) type Channels = BTreeSet<Arc<str>>;

/// Registered topics with their channels. A channel never exists without its topic.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<Arc<str>, Channels>);

impl Claims {
    pub(super) fn insert(&mut self, (topic, channel): &Name) {
        let channels = self.0.entry(topic.clone()).or_default();
        channels.extend(channel.clone());
    }

    pub(super) fn contains(&self, topic: &str, channel: Option<&str>) -> bool {
        self.0
            .get(topic)
            .is_some_and(|channels| channel.is_none_or(|channel| channels.contains(channel)))
    }

    /// The first channel of a topic.
    pub(super) fn first_channel(&self, topic: &str) -> Option<&Arc<str>> {
        self.0.get(topic)?.first()
    }

    pub(super) fn remove_channel(&mut self, topic: &str, channel: &str) -> bool {
        let channels = self.0.get_mut(topic);
        channels.is_some_and(|channels| channels.remove(channel))
    }

    /// Removes a topic with all its channels.
    pub(super) fn remove_topic(&mut self, topic: &str) -> Option<Channels> {
        self.0.remove(topic)
    }

    /// Keeps only these channels of a topic, and the topic if there are any; returns what it had.
    pub(super) fn keep_only(
        &mut self,
        topic: &str,
        kept: Vec<Arc<str>>,
        topic_kept: bool,
    ) -> Option<Channels> {
        let removed = self.0.remove(topic)?;
        if topic_kept || !kept.is_empty() {
            self.0.insert(topic.into(), kept.into_iter().collect());
        }
        Some(removed)
    }

    /// At most this many names after this one, each topic before its channels.
    pub(super) fn after(&self, after: Option<&Name>, most: usize) -> Vec<Name> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut names = Vec::new();
        let mut from = Unbounded;
        if let Some((topic, channel)) = after {
            from = Excluded(topic.clone());
            if let Some(channels) = self.0.get(topic) {
                let behind = channel.clone().map_or(Unbounded, Excluded);
                let rest = channels.range((behind, Unbounded)).take(most);
                names.extend(rest.map(|channel| (topic.clone(), Some(channel.clone()))));
            }
        }
        for (topic, channels) in self.0.range((from, Unbounded)) {
            if names.len() >= most {
                break;
            }
            names.push((topic.clone(), None));
            let left = most - names.len();
            let channels = channels.iter().take(left);
            names.extend(channels.map(|channel| (topic.clone(), Some(channel.clone()))));
        }
        names
    }

    /// Each topic with its channels.
    pub(super) fn into_topics(self) -> impl Iterator<Item = (Arc<str>, Channels)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(topic: &str, channel: Option<&str>) -> Name {
        (topic.into(), channel.map(Into::into))
    }

    #[test]
    fn names_come_in_order_page_by_page() {
        let mut claims = Claims::default();
        let all = [
            name("a", None),
            name("a", Some("x")),
            name("a", Some("y")),
            name("b", None),
            name("c", None),
            name("c", Some("x")),
        ];
        for name in &all {
            claims.insert(name);
        }
        for most in 1..8 {
            let mut found: Vec<Name> = Vec::new();
            loop {
                let page = claims.after(found.last(), most);
                assert!(page.len() <= most);
                if page.is_empty() {
                    break;
                }
                found.extend(page);
            }
            assert_eq!(found, all, "{most} at a time");
        }
    }

    #[test]
    fn a_channel_brings_its_topic() {
        let mut claims = Claims::default();
        claims.insert(&name("a", Some("x")));
        assert!(claims.contains("a", None) && claims.contains("a", Some("x")));
        assert!(claims.remove_channel("a", "x"));
        assert!(claims.contains("a", None) && !claims.contains("a", Some("x")));
        claims.insert(&name("a", Some("y")));
        let removed = claims.keep_only("a", vec!["z".into()], false);
        assert_eq!(removed.map(|channels| channels.len()), Some(1));
        assert!(claims.contains("a", Some("z")) && !claims.contains("a", Some("y")));
    }
}
