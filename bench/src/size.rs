//! How much is registered. PURE.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// A registry of one of three sizes. All nsqds have the same topics and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// 10 nsqds with 10 topics of 2 channels: 200 registrations.
    Small,
    /// 10 nsqds with 1,000 topics of 5 channels: 50,000 registrations.
    Medium,
    /// 10 nsqds with 20,000 topics of 5 channels: a million registrations.
    Large,
}

impl Size {
    pub(crate) fn nsqds(self) -> usize {
        10
    }

    pub(crate) fn topics(self) -> usize {
        match self {
            Size::Small => 10,
            Size::Medium => 1_000,
            Size::Large => 20_000,
        }
    }

    /// Of each topic.
    pub(crate) fn channels(self) -> usize {
        match self {
            Size::Small => 2,
            Size::Medium | Size::Large => 5,
        }
    }

    /// Of each nsqd: one for every channel.
    pub(crate) fn registrations_of_an_nsqd(self) -> usize {
        self.topics() * self.channels()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Size::Small => "small",
            Size::Medium => "medium",
            Size::Large => "large",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_what_its_documentation_says() {
        for (size, registrations) in [
            (Size::Small, 200),
            (Size::Medium, 50_000),
            (Size::Large, 1_000_000),
        ] {
            let of_all = size.nsqds() * size.registrations_of_an_nsqd();
            assert_eq!(of_all, registrations);
        }
    }
}
