//! Tracks which attachments are absent, and expires those whose producers have stopped elsewhere.

use super::invariant::present;
use super::row_log::RowLog;
use super::{Note, RegistrationDb, Source};
use crate::error::Result;
use crate::registry::rows::{AttachmentNumber, Away, ProducerNumber};
use crate::registry::values::{MemberId, ProducerId, UnixMillis};

/// Members adopt the leader's time, so their clocks are behind by the network's delay, in
/// milliseconds.
const CLOCKS_DIFFER: UnixMillis = 500;

impl RegistrationDb {
    /// Finds producers of which [`Event::Expire`](crate::registry::event::Event::Expire) would
    /// remove an attachment, with the end of their last session, for ends up to `until`. Looks at
    /// `most` producers behind `behind`. The second value is the last one looked at, if there are
    /// more.
    pub fn expirable(
        &self,
        until: UnixMillis,
        behind: Option<ProducerNumber>,
        most: usize,
    ) -> (Vec<(ProducerId, UnixMillis)>, Option<ProducerNumber>) {
        let from = behind.map_or(0, |number| number.saturating_add(1));
        let mut found = Vec::new();
        let mut last = None;
        for (looked, (number, producer)) in self.producers.range(from..).enumerate() {
            if looked == most {
                return (found, last);
            }
            last = Some(*number);
            let Some(ended) = producer.row.ended.filter(|ended| *ended <= until) else {
                continue;
            };
            if !self.ended_there(*number, ended).is_empty() {
                found.push((producer.row.id.clone(), ended));
            }
        }
        (found, None)
    }

    /// Whether any attachment is absent, so that [`expirable`](Self::expirable) may find something.
    pub fn has_absent_attachments(&self) -> bool {
        self.members.values().any(|member| {
            let oldest = member.attachments.first();
            oldest.is_some_and(|(incarnation, _)| {
                member.row.away.is_some() || *incarnation < member.row.incarnation
            })
        })
    }

    /// Whether an attachment is present: its member is not away and has recorded it in its newest
    /// incarnation.
    pub(super) fn is_present(&self, number: AttachmentNumber) -> bool {
        let attachment = self.attachments.get(&number);
        attachment.is_some_and(|attachment| {
            let member = self.members.get(&attachment.row.member);
            member.is_some_and(|member| {
                member.row.away.is_none()
                    && !member.row.removed
                    && member.row.incarnation == attachment.row.incarnation
            })
        })
    }

    pub(super) fn note_away(
        &mut self,
        member: MemberId,
        last_heard: UnixMillis,
        at: UnixMillis,
        log: &mut RowLog,
    ) -> Result<()> {
        let known = self.members.get(&member);
        let counts = known.is_some_and(|known| known.row.away.is_none() && !known.row.removed);
        if !counts {
            return Ok(());
        }
        let since = at;
        let away = Some(Away { since, last_heard });
        self.change_member(member, log, |row| row.away = away)
    }

    /// Removes a producer's absent attachments, as far as they were last heard before its session
    /// at a present member ended.
    pub(super) fn expire(
        &mut self,
        source: Source,
        producer: &ProducerId,
        ended: UnixMillis,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some(number) = self.numbers.get(producer).copied() else {
            return Ok(());
        };
        let recorded = present(&self.producers, &number, "producer")?.row.ended;
        if recorded != Some(ended) {
            return Ok(());
        }
        for (member, attachment) in self.ended_there(number, ended) {
            self.leave(attachment, log)?;
            source.note(member, log, || Note::Taken {
                producer: producer.clone(),
                name: None,
            });
        }
        // A producer is forgotten with its last attachment.
        match self.producers.contains_key(&number) {
            true => self.set_ended(number, recorded, log),
            false => Ok(()),
        }
    }

    /// The attachments of a producer that the end of its session elsewhere ends as well; none while
    /// one is present.
    fn ended_there(
        &self,
        number: ProducerNumber,
        ended: UnixMillis,
    ) -> Vec<(MemberId, AttachmentNumber)> {
        let Some(producer) = self.producers.get(&number) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (member, number) in &producer.attachments {
            if self.is_present(*number) {
                return Vec::new();
            }
            if self.ended_after_last_heard(*number, ended) {
                found.push((*member, *number));
            }
        }
        found
    }

    /// Whether the member of an absent attachment was last heard before this time.
    pub(super) fn ended_after_last_heard(&self, number: AttachmentNumber, at: UnixMillis) -> bool {
        let heard = self.last_heard(number);
        heard.is_some_and(|heard| at.saturating_add(CLOCKS_DIFFER) >= heard)
    }

    /// When the member of an absent attachment was last known to serve its sessions.
    fn last_heard(&self, number: AttachmentNumber) -> Option<UnixMillis> {
        let row = &self.attachments.get(&number)?.row;
        let member = self.members.get(&row.member)?;
        let restarted = member.start_after(row.incarnation);
        restarted
            .map(|start| start.last_heard)
            .or(member.row.away.map(|away| away.last_heard))
    }
}
