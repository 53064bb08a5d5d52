//! Starts and ends attachments; ending one takes several steps of bounded work.
//!
//! An attachment that ends is ignored by queries at once, however many claims it has. Claims that
//! are left belong to a number that is *leaving*, and are removed by the next
//! [`Sweep`](crate::registry::event::Event::Sweep)s. A producer that attaches again meanwhile gets
//! another number, and none of the old claims.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::invariant::{present, present_mut};
use super::row_log::RowLog;
use super::{Attachment, Producer, RegistrationDb};
use crate::error::{Error, Result};
use crate::registry::rows::{AttachmentNumber, AttachmentRow, ProducerNumber, ProducerRow, Row};
use crate::registry::values::{MemberId, ProducerId, UnixMillis};

impl RegistrationDb {
    /// Whether claims are left to be removed by sweeps.
    pub fn needs_sweep(&self) -> bool {
        !self.leaving.is_empty()
            || !self.releasing.is_empty()
            || self.removed_attachment().is_some()
    }

    /// The live attachment of a producer at a member.
    pub(super) fn attachment_of(
        &self,
        member: MemberId,
        producer: &ProducerId,
    ) -> Option<AttachmentNumber> {
        let number = self.numbers.get(producer)?;
        let producer = self.producers.get(number)?;
        producer.attachments.get(&member).copied()
    }

    /// All live attachments of a producer.
    pub(super) fn attachments_of(
        &self,
        producer: &ProducerId,
    ) -> impl Iterator<Item = (MemberId, AttachmentNumber)> {
        let number = self.numbers.get(producer);
        let producer = number.and_then(|number| self.producers.get(number));
        let attachments = producer
            .into_iter()
            .flat_map(|producer| &producer.attachments);
        attachments.map(|(member, number)| (*member, *number))
    }

    /// Records that a member has a session of the producer. `row` makes the row from the producer's
    /// number.
    pub(super) fn attach(
        &mut self,
        id: &ProducerId,
        member: MemberId,
        row: impl FnOnce(ProducerNumber) -> AttachmentRow,
        log: &mut RowLog,
    ) -> Result<()> {
        let producer_number = self.producer_number(id, log)?;
        self.set_ended(producer_number, None, log)?;
        let row = row(producer_number);
        debug_assert!(
            row.member == member && !row.leaving,
            "a new attachment belongs to another member or has ended"
        );
        let producer = present_mut(&mut self.producers, &producer_number, "producer")?;
        let known = producer.attachments.get(&member).copied();
        if let Some(number) = known {
            let incarnation = row.incarnation;
            let before = self.change_attachment(number, log, |known| *known = row)?;
            self.index(member, before, number, false);
            self.index(member, incarnation, number, true);
            return Ok(());
        }
        let number = self.attachment_numbers.take();
        producer.attachments.insert(member, number);
        self.index(member, row.incarnation, number, true);
        log.insert(&Row::Attachment(number, row.clone()))?;
        let topics = BTreeSet::new();
        let replaced = self.attachments.insert(number, Attachment { row, topics });
        debug_assert!(
            replaced.is_none(),
            "attachment number {number} was not free"
        );
        Ok(())
    }

    /// Ends the attachment after the producer's last session at the member. If the member was
    /// present, the end is remembered for the producer's absent attachments.
    pub(super) fn detach(
        &mut self,
        member: MemberId,
        producer: &ProducerId,
        at: UnixMillis,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some(number) = self.attachment_of(member, producer) else {
            return Ok(());
        };
        let was_present = self.is_present(number);
        self.leave(number, log)?;
        if was_present && let Some(number) = self.numbers.get(producer).copied() {
            let known = present(&self.producers, &number, "producer")?;
            let ended = known.row.ended.map_or(at, |ended| ended.max(at));
            self.set_ended(number, Some(ended), log)?;
        }
        Ok(())
    }

    /// Ends an attachment, and removes as many of its claims as this step allows.
    pub(super) fn leave(&mut self, number: AttachmentNumber, log: &mut RowLog) -> Result<()> {
        let incarnation = self.change_attachment(number, log, |row| row.leaving = true)?;
        let row = &present(&self.attachments, &number, "attachment")?.row;
        let (member, producer) = (row.member, row.producer);
        self.index(member, incarnation, number, false);
        let producer = present_mut(&mut self.producers, &producer, "producer")?;
        let counted = producer.attachments.remove(&member);
        debug_assert!(
            counted == Some(number),
            "attachment {number} ends and was not live"
        );
        producer.leaving += 1;
        let first = self.leaving.insert(number);
        debug_assert!(first, "attachment {number} ends twice");
        self.sweep_attachment(number, log)
    }

    /// Removes a bounded number of claims of ended attachments and of released topics.
    pub(super) fn sweep(&mut self, log: &mut RowLog) -> Result<()> {
        while log.has_room() {
            if let Some(number) = self.leaving.first().copied() {
                self.sweep_attachment(number, log)?;
            } else if let Some((topic, number)) = self.releasing.first().cloned() {
                self.release_topic(number, &topic, log)?;
            } else if let Some(number) = self.removed_attachment() {
                self.leave(number, log)?;
            } else {
                break;
            }
        }
        Ok(())
    }

    fn sweep_attachment(&mut self, number: AttachmentNumber, log: &mut RowLog) -> Result<()> {
        while let Some(topic) = self.first_topic(number) {
            if !log.has_room() {
                return Ok(());
            }
            self.release_topic(number, &topic, log)?;
        }
        self.leaving.remove(&number);
        let Some(attachment) = self.attachments.remove(&number) else {
            let what = format!("attachment {number} is swept but missing");
            return Err(Error::invariant(what));
        };
        debug_assert!(
            attachment.topics.is_empty(),
            "attachment {number} is removed before its claims"
        );
        debug_assert!(
            attachment.row.leaving,
            "attachment {number} is swept while it is live"
        );
        self.attachment_numbers.give_back(number);
        let producer = attachment.row.producer;
        log.remove(&Row::Attachment(number, attachment.row))?;
        let known = present_mut(&mut self.producers, &producer, "producer")?;
        known.leaving = known.leaving.checked_sub(1).ok_or_else(|| {
            Error::invariant(format!(
                "more attachments of producer {producer} are swept than have ended"
            ))
        })?;
        self.forget_if_gone(producer, log)
    }

    fn first_topic(&self, number: AttachmentNumber) -> Option<Arc<str>> {
        self.attachments.get(&number)?.topics.first().cloned()
    }

    fn producer_number(&mut self, id: &ProducerId, log: &mut RowLog) -> Result<ProducerNumber> {
        if let Some(number) = self.numbers.get(id) {
            return Ok(*number);
        }
        let number = self.producer_numbers.take();
        let row = ProducerRow {
            id: id.clone(),
            ended: None,
        };
        log.insert(&Row::Producer(number, row.clone()))?;
        self.numbers.insert(id.clone(), number);
        let replaced = self.producers.insert(number, Producer::new(row));
        debug_assert!(replaced.is_none(), "producer number {number} was not free");
        Ok(number)
    }

    pub(super) fn set_ended(
        &mut self,
        number: ProducerNumber,
        ended: Option<UnixMillis>,
        log: &mut RowLog,
    ) -> Result<()> {
        let producer = present_mut(&mut self.producers, &number, "producer")?;
        // Without live attachments there is nothing that it could expire.
        let ended = ended.filter(|_| !producer.attachments.is_empty());
        if producer.row.ended == ended {
            return Ok(());
        }
        let old = producer.row.clone();
        producer.row.ended = ended;
        log.replace(
            &Row::Producer(number, old),
            &Row::Producer(number, producer.row.clone()),
        )
    }

    fn forget_if_gone(&mut self, number: ProducerNumber, log: &mut RowLog) -> Result<()> {
        let producer = present(&self.producers, &number, "producer")?;
        if !producer.attachments.is_empty() || producer.leaving > 0 {
            return Ok(());
        }
        if let Some(producer) = self.producers.remove(&number) {
            let indexed = self.numbers.remove(&producer.row.id);
            debug_assert!(
                indexed == Some(number),
                "producer {number} was not indexed by its address"
            );
            self.producer_numbers.give_back(number);
            log.remove(&Row::Producer(number, producer.row))?;
        }
        Ok(())
    }

    /// Changes an attachment's row. Returns the incarnation that had recorded it before.
    pub(super) fn change_attachment(
        &mut self,
        number: AttachmentNumber,
        log: &mut RowLog,
        change: impl FnOnce(&mut AttachmentRow),
    ) -> Result<u64> {
        let attachment = present_mut(&mut self.attachments, &number, "attachment")?;
        let old = attachment.row.clone();
        change(&mut attachment.row);
        let (before, new) = (old.incarnation, attachment.row.clone());
        debug_assert!(
            (old.member, old.producer) == (new.member, new.producer),
            "attachment {number} changes its producer or member"
        );
        debug_assert!(!old.leaving, "attachment {number} changes after its end");
        if old != new {
            log.replace(&Row::Attachment(number, old), &Row::Attachment(number, new))?;
        }
        Ok(before)
    }
}
