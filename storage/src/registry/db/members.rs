//! Tracks members: the last batch applied, the starts of incarnations, removals.

use std::collections::{BTreeMap, BTreeSet};

use super::RegistrationDb;
use super::invariant::present_mut;
use super::row_log::RowLog;
use crate::error::Result;
use crate::registry::event::{BatchResult, MemberBatch, Refusal};
use crate::registry::rows::{AttachmentNumber, MemberRow, Row, Start};
use crate::registry::values::{MemberId, UnixMillis};

/// A member that restarts within this time is not recorded as away, so when it was last heard is an
/// estimate. Slightly longer than the leader waits, in milliseconds.
const UNNOTICED: UnixMillis = 4_000;

/// The most starts remembered for one member. A member that keeps crashing, and gets attachments in
/// each incarnation, has one for each until its attachments time out.
const MOST_STARTS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) row: MemberRow,
    /// By incarnation.
    pub(super) starts: BTreeMap<u64, Start>,
    /// The live ones, by the incarnation that recorded them.
    pub(super) attachments: BTreeSet<(u64, AttachmentNumber)>,
}

/// Whether a batch follows the last one that was applied: it is the next of that incarnation, or
/// the first of a newer one.
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
    /// What is known about a member; `None` if it has never proposed.
    pub fn member(&self, member: MemberId) -> Option<&MemberRow> {
        self.members.get(&member).map(|member| &member.row)
    }

    /// The members that have proposed and were not removed.
    pub fn present_members(&self) -> impl Iterator<Item = MemberId> {
        let members = self.members.iter();
        let present = members.filter(|(_, member)| !member.row.removed);
        present.map(|(member, _)| *member)
    }

    /// The highest id of a member that has proposed or was removed.
    pub fn last_member(&self) -> Option<MemberId> {
        self.members.keys().next_back().copied()
    }

    /// How many live attachments a member has.
    pub fn attachments_at(&self, member: MemberId) -> usize {
        self.members
            .get(&member)
            .map_or(0, |member| member.attachments.len())
    }

    /// The result of a batch that must not be applied again.
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

    /// Notes that a batch is being applied: its member is not away, and the first batch of an
    /// incarnation fences all earlier ones.
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
                "a batch ends that did not begin"
            );
            row.sequence = batch.sequence;
            row.refused = refused.to_vec();
        })
    }

    /// Marks a member as removed. Its row stays, so that a batch that arrives late is not applied.
    /// Its attachments are hidden from now on, and removed by sweeps.
    pub(super) fn remove_member(&mut self, member: MemberId, log: &mut RowLog) -> Result<()> {
        self.change_member(member, log, |row| {
            *row = MemberRow {
                removed: true,
                ..MemberRow::default()
            };
        })?;
        self.sweep(log)
    }

    /// A live attachment of a removed member.
    pub(super) fn removed_attachment(&self) -> Option<AttachmentNumber> {
        let mut removed = self.members.values().filter(|member| member.row.removed);
        removed.find_map(|member| member.attachments.first().map(|(_, number)| *number))
    }

    /// Updates the index of a member's attachments by incarnation.
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
            "attachment {number} is already indexed at member {member}, or never was"
        );
    }

    /// Forgets starts that no attachment refers to, and one if there are too many.
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
            // Attachments between two starts are dated by the later one, so the closest pair loses
            // least.
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

    pub(super) fn change_member(
        &mut self,
        id: MemberId,
        log: &mut RowLog,
        change: impl FnOnce(&mut MemberRow),
    ) -> Result<()> {
        let row = &mut self.members.entry(id).or_default().row;
        let old = row.clone();
        change(row);
        let new = row.clone();
        // A member about which nothing is known has no row.
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
