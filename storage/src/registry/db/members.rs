//! Members: which of their batches were applied, when their incarnations began, and what becomes
//! of their attachments while they are away.

use std::collections::{BTreeMap, BTreeSet};

use super::invariant::{present, present_mut};
use super::row_log::RowLog;
use super::{Note, RegistrationDb, Source};
use crate::error::Result;
use crate::registry::event::{BatchResult, MemberBatch, Refusal};
use crate::registry::rows::{AttachmentNumber, Away, MemberRow, ProducerNumber, Row, Start};
use crate::registry::values::{MemberId, ProducerId, UnixMillis};

/// A member that restarts sooner is not recorded as away, so nobody knows when exactly it died:
/// somewhat more than the leader waits, in milliseconds.
const UNNOTICED: UnixMillis = 4_000;

/// Members take the leader's time over, and are late by the way it takes, in milliseconds.
const CLOCKS_DIFFER: UnixMillis = 500;

/// Beginnings of incarnations remembered for one member. A member that crashes all the time, and
/// gets attachments in each incarnation, has as many as its attachments take to time out.
const MOST_STARTS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) row: MemberRow,
    /// By incarnation.
    pub(super) starts: BTreeMap<u64, Start>,
    /// Those that count, by the incarnation that recorded them.
    pub(super) attachments: BTreeSet<(u64, AttachmentNumber)>,
}

/// Whether a batch is the one after the last that was applied: the next of its incarnation, or the
/// first of a newer one.
fn is_next(last: &MemberRow, batch: &MemberBatch) -> bool {
    match batch.incarnation == last.incarnation {
        true => Some(batch.sequence) == last.sequence.checked_add(1),
        false => batch.incarnation > last.incarnation && batch.sequence == 1,
    }
}

impl Member {
    /// The first start after an incarnation.
    pub(super) fn start_after(&self, incarnation: u64) -> Option<Start> {
        let later = self.starts.range(incarnation.checked_add(1)?..);
        later.map(|(_, start)| *start).next()
    }
}

impl RegistrationDb {
    /// What is known about a member; `None` if it never proposed anything.
    pub fn member(&self, member: MemberId) -> Option<&MemberRow> {
        self.members.get(&member).map(|member| &member.row)
    }

    /// The members that have proposed and were not removed.
    pub fn present_members(&self) -> impl Iterator<Item = MemberId> {
        let members = self.members.iter();
        let present = members.filter(|(_, member)| !member.row.removed);
        present.map(|(member, _)| *member)
    }

    /// The highest member id that ever proposed or was removed.
    pub fn last_member(&self) -> Option<MemberId> {
        self.members.keys().next_back().copied()
    }

    /// How many attachments of a member count.
    pub fn attachments_at(&self, member: MemberId) -> usize {
        self.members
            .get(&member)
            .map_or(0, |member| member.attachments.len())
    }

    /// Producers of which [`Event::Expire`](crate::registry::event::Event::Expire) would take something, with
    /// the end of their session; only ends up to this time, of producers behind this one. Looks at
    /// `most` producers; the second value is the last one looked at, if there are more.
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

    /// Whether any attachment is not present, so that [`expirable`](Self::expirable) may find
    /// something.
    pub fn has_absent_attachments(&self) -> bool {
        self.members.values().any(|member| {
            let oldest = member.attachments.first();
            oldest.is_some_and(|(incarnation, _)| {
                member.row.away.is_some() || *incarnation < member.row.incarnation
            })
        })
    }

    /// Whether the member is not away and has recorded the attachment in its newest incarnation.
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

    /// The answer to a batch that is not to be applied.
    pub(super) fn known_result(&self, batch: &MemberBatch) -> Option<BatchResult> {
        let known = &self.members.get(&batch.member)?.row;
        let last = (known.incarnation, known.sequence);
        let this = (batch.incarnation, batch.sequence);
        if known.removed || this < last {
            return Some(BatchResult::Superseded);
        }
        (this == last).then(|| BatchResult::Applied {
            refused: known.refused.clone(),
        })
    }

    /// A batch is being applied, so its member is not away; the first of an incarnation fences all
    /// earlier ones.
    pub(super) fn begin_batch(&mut self, batch: &MemberBatch, log: &mut RowLog) -> Result<()> {
        let member = self.members.entry(batch.member).or_default();
        let before = member.row.clone();
        debug_assert!(
            is_next(&before, batch) && !before.removed,
            "batch {}.{} of member {} follows {}.{}",
            batch.incarnation,
            batch.sequence,
            batch.member,
            before.incarnation,
            before.sequence
        );
        if before.incarnation < batch.incarnation && !member.attachments.is_empty() {
            let last_heard = before
                .away
                .map_or(batch.at.saturating_sub(UNNOTICED), |away| away.last_heard);
            let start = Start {
                at: batch.at,
                last_heard,
            };
            member.starts.insert(batch.incarnation, start);
            log.insert(&Row::Start(batch.member, batch.incarnation, start))?;
        }
        if before.away.is_some() || before.incarnation != batch.incarnation {
            self.change_member(batch.member, log, |row| {
                row.away = None;
                row.incarnation = batch.incarnation;
            })?;
            self.forget_starts(batch.member, log)?;
        }
        Ok(())
    }

    pub(super) fn end_batch(
        &mut self,
        batch: &MemberBatch,
        refused: &[(u32, Refusal)],
        log: &mut RowLog,
    ) -> Result<()> {
        self.change_member(batch.member, log, |row| {
            debug_assert!(
                row.incarnation == batch.incarnation,
                "a batch was not begun"
            );
            row.sequence = batch.sequence;
            row.refused = refused.to_vec();
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

    /// What only attachments that are not present hold of a producer goes, as far as its session
    /// at a present member ended after they were last known to be alive.
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
        // The last attachment takes the producer along.
        match self.producers.contains_key(&number) {
            true => self.set_ended(number, recorded, log),
            false => Ok(()),
        }
    }

    /// The attachments of a producer that the end of its session elsewhere speaks for; none while
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
            if self.is_after_last_word(*number, ended) {
                found.push((*member, *number));
            }
        }
        found
    }

    /// Whether the sessions behind an attachment that is not present were served for the last time
    /// before this moment.
    pub(super) fn is_after_last_word(&self, number: AttachmentNumber, at: UnixMillis) -> bool {
        let heard = self.last_heard(number);
        heard.is_some_and(|heard| at.saturating_add(CLOCKS_DIFFER) >= heard)
    }

    /// When the sessions behind an attachment that is not present were last known to be served.
    fn last_heard(&self, number: AttachmentNumber) -> Option<UnixMillis> {
        let row = &self.attachments.get(&number)?.row;
        let member = self.members.get(&row.member)?;
        let restarted = member.start_after(row.incarnation);
        restarted
            .map(|start| start.last_heard)
            .or(member.row.away.map(|away| away.last_heard))
    }

    /// The member's row stays: a batch of the removed member that arrives late must not be applied.
    /// Its attachments do not count from now on, and go with the sweeps.
    pub(super) fn remove_member(&mut self, member: MemberId, log: &mut RowLog) -> Result<()> {
        self.change_member(member, log, |row| {
            *row = MemberRow {
                removed: true,
                ..MemberRow::default()
            };
        })?;
        self.sweep(log)
    }

    /// An attachment of a member that was removed.
    pub(super) fn removed_attachment(&self) -> Option<AttachmentNumber> {
        let mut removed = self.members.values().filter(|member| member.row.removed);
        removed.find_map(|member| member.attachments.first().map(|(_, number)| *number))
    }

    /// Keeps the index of a member's attachments by incarnation.
    pub(super) fn index(
        &mut self,
        member: MemberId,
        incarnation: u64,
        number: AttachmentNumber,
        there: bool,
    ) {
        let attachments = &mut self.members.entry(member).or_default().attachments;
        let changed = match there {
            true => attachments.insert((incarnation, number)),
            false => attachments.remove(&(incarnation, number)),
        };
        debug_assert!(
            changed,
            "attachment {number} is indexed at member {member} already, or was not"
        );
    }

    /// Forgets starts that no attachment refers to, and too many of them.
    fn forget_starts(&mut self, id: MemberId, log: &mut RowLog) -> Result<()> {
        let member = present_mut(&mut self.members, &id, "member")?;
        let mut from = 0;
        let mut needless = Vec::new();
        for incarnation in member.starts.keys() {
            let mut named = member.attachments.range((from, 0)..(*incarnation, 0));
            match named.next() {
                Some(_) => from = *incarnation,
                None => needless.push(*incarnation),
            }
        }
        if needless.is_empty() && member.starts.len() > MOST_STARTS {
            // Its attachments count from the next start on: those two are the closest.
            let pairs = member.starts.iter().zip(member.starts.values().skip(1));
            let gap = |((_, start), next): &((&u64, &Start), &Start)| next.at.abs_diff(start.at);
            needless.extend(
                pairs
                    .min_by_key(gap)
                    .map(|((incarnation, _), _)| *incarnation),
            );
        }
        for incarnation in needless {
            if let Some(start) = member.starts.remove(&incarnation) {
                log.remove(&Row::Start(id, incarnation, start))?;
            }
        }
        Ok(())
    }

    fn change_member(
        &mut self,
        id: MemberId,
        log: &mut RowLog,
        change: impl FnOnce(&mut MemberRow),
    ) -> Result<()> {
        let row = &mut self.members.entry(id).or_default().row;
        let old = row.clone();
        change(row);
        let new = row.clone();
        // A member that nothing is known about has no row.
        let nothing = MemberRow::default();
        let stored = |row: MemberRow| Row::Member(id, row);
        match (old == nothing, new == nothing) {
            _ if old == new => Ok(()),
            (true, _) => log.insert(&stored(new)),
            (_, true) => log.remove(&stored(old)),
            (false, false) => log.replace(&stored(old), &stored(new)),
        }
    }
}
