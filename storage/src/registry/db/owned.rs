//! Answers a member's queries about its own attachments and claims, which it compares with what its
//! sessions want.

use std::sync::Arc;

use super::RegistrationDb;
use crate::registry::rows::AttachmentNumber;
use crate::registry::values::{MemberId, ProducerId, UnixMillis, is_ephemeral};

/// A topic, or a channel of it.
pub type Name = (Arc<str>, Option<Arc<str>>);

/// What is recorded of a producer at one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The incarnation of the member that recorded it.
    pub incarnation: u64,
    /// Whether the member reported that it receives PINGs.
    pub active: bool,
}

impl RegistrationDb {
    /// The attachment of a producer at a member.
    pub fn recorded(&self, member: MemberId, producer: &ProducerId) -> Option<Recorded> {
        let number = self.attachment_of(member, producer)?;
        let row = &self.attachments.get(&number)?.row;
        Some(Recorded {
            incarnation: row.incarnation,
            active: row.active,
        })
    }

    /// Whether a producer's claim at a member is recorded.
    pub fn is_recorded(
        &self,
        member: MemberId,
        producer: &ProducerId,
        topic: &str,
        channel: Option<&str>,
    ) -> bool {
        let number = self.attachment_of(member, producer);
        let topic = self.topics.get(topic);
        number
            .zip(topic)
            .is_some_and(|(number, topic)| topic.is_claimed_by(number, channel))
    }

    /// The registry's own copy of a name, to be shared.
    pub fn shared_name(&self, topic: &str, channel: Option<&str>) -> Option<Name> {
        let (name, topic) = self.topics.get_key_value(topic)?;
        let channel = match channel {
            Some(channel) => Some(topic.channels.get_key_value(channel)?.0.clone()),
            None => None,
        };
        Some((name.clone(), channel))
    }

    /// The recorded claims of a producer at a member after this one, in order, a topic before its
    /// channels. Returns at most `most`; fewer only if no further ones exist.
    pub fn recorded_after(
        &self,
        member: MemberId,
        producer: &ProducerId,
        after: Option<&Name>,
        most: usize,
    ) -> Vec<Name> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut names = Vec::new();
        let attachment = self.attachment_of(member, producer);
        let Some((number, attachment)) =
            attachment.and_then(|number| Some((number, self.attachments.get(&number)?)))
        else {
            return names;
        };
        let mut from = Unbounded;
        if let Some((topic, channel)) = after {
            from = Excluded(topic.clone());
            if attachment.topics.contains(topic) {
                self.add_channels(topic, number, channel.as_deref(), most, &mut names);
            }
        }
        for topic in attachment.topics.range((from, Unbounded)) {
            if names.len() >= most {
                break;
            }
            if self.is_recorded_by(topic, number) {
                names.push((topic.clone(), None));
                self.add_channels(topic, number, None, most, &mut names);
            }
        }
        debug_assert!(
            names.len() <= most && names.is_sorted(),
            "recorded names are out of order, or too many"
        );
        names
    }

    fn is_recorded_by(&self, topic: &str, number: AttachmentNumber) -> bool {
        let topic = self.topics.get(topic);
        topic.is_some_and(|topic| topic.is_claimed_by(number, None))
    }

    /// Adds the channels after `behind` that an attachment claims below a topic, until there are
    /// `most` names.
    fn add_channels(
        &self,
        name: &Arc<str>,
        number: AttachmentNumber,
        behind: Option<&str>,
        most: usize,
        names: &mut Vec<Name>,
    ) {
        let topic = self.topics.get(name);
        let claim = topic.and_then(|topic| topic.claims.get(&number));
        if let Some(claim) = claim.filter(|claim| !claim.releasing) {
            let left = most.saturating_sub(names.len());
            let channels = claim.channels_after(behind, left).into_iter();
            names.extend(channels.map(|channel| (name.clone(), Some(channel))));
        }
    }

    /// Whether an UNREGISTER at a member has an effect although the name is not recorded there: an
    /// absent attachment claims it, or it is an ephemeral name without claims.
    pub fn release_matters(
        &self,
        member: MemberId,
        producer: &ProducerId,
        topic: &str,
        channel: Option<&str>,
    ) -> bool {
        let held = self.held_by_absent(producer, topic, channel);
        if held.iter().any(|(holder, _)| *holder != member) {
            return true;
        }
        let Some(found) = self.topics.get(topic) else {
            return false;
        };
        match channel {
            None => is_ephemeral(topic) && found.claims.is_empty(),
            Some(channel) => is_ephemeral(channel) && found.channels.get(channel) == Some(&0),
        }
    }

    /// The producers of a member's attachments from before this incarnation that have had time to
    /// come back: the next start after the attachment was at `started_until` or before. At most
    /// `most`.
    pub fn abandoned(
        &self,
        member: MemberId,
        incarnation: u64,
        started_until: UnixMillis,
        most: usize,
    ) -> Vec<ProducerId> {
        let Some(known) = self.members.get(&member) else {
            return Vec::new();
        };
        let earlier = known.attachments.range(..(incarnation, 0));
        let abandoned = earlier.take_while(|(recorded, _)| {
            let start = known.start_after(*recorded);
            start.is_some_and(|start| start.at <= started_until)
        });
        abandoned
            .take(most)
            .filter_map(|(_, number)| self.attachments.get(number))
            .filter_map(|attachment| self.producers.get(&attachment.row.producer))
            .map(|producer| producer.row.id.clone())
            .collect()
    }

    /// How many attachments of a member were recorded before this incarnation.
    pub fn inherited(&self, member: MemberId, incarnation: u64) -> usize {
        let member = self.members.get(&member);
        member.map_or(0, |member| {
            member.attachments.range(..(incarnation, 0)).count()
        })
    }
}
