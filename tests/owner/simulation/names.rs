//! The few topics and channels of the simulated world.

use std::ops::Range;

pub const TOPICS: [&str; 4] = ["a", "b", "c", "d#ephemeral"];
pub const CHANNELS: [&str; 2] = ["x", "y#ephemeral"];

const SPAN: usize = 1 + CHANNELS.len();

/// All names.
pub const COUNT: usize = TOPICS.len() * SPAN;

/// A topic, or a channel of it. Channels follow their topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub usize);

impl Name {
    pub fn new(topic: usize, channel: Option<usize>) -> Self {
        Name(topic * SPAN + channel.map_or(0, |channel| channel + 1))
    }

    pub fn find(topic: &str, channel: Option<&str>) -> Self {
        let place = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
        let topic = place(&TOPICS, topic).expect("a topic of this world");
        let channel = channel.map(|name| place(&CHANNELS, name).expect("a channel of this world"));
        Name::new(topic, channel)
    }

    pub fn all() -> impl Iterator<Item = Name> {
        (0..COUNT).map(Name)
    }

    pub fn topic(self) -> Name {
        Name(self.0 - self.0 % SPAN)
    }

    pub fn is_topic(self) -> bool {
        self.0.is_multiple_of(SPAN)
    }

    /// The name itself, and its channels if it is a topic.
    pub fn below(self) -> Range<usize> {
        match self.is_topic() {
            true => self.0..self.0 + SPAN,
            false => self.0..self.0 + 1,
        }
    }

    pub fn topic_text(self) -> &'static str {
        TOPICS[self.0 / SPAN]
    }

    pub fn channel_text(self) -> Option<&'static str> {
        (self.0 % SPAN)
            .checked_sub(1)
            .map(|channel| CHANNELS[channel])
    }

    pub fn is_ephemeral(self) -> bool {
        let text = self.channel_text().unwrap_or(self.topic_text());
        text.ends_with("#ephemeral")
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.topic_text())?;
        match self.channel_text() {
            Some(channel) => write!(formatter, "/{channel}"),
            None => Ok(()),
        }
    }
}
