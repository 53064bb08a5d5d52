//! Attachments: how they begin, and how they end in steps of bounded work.
//!
//! One that ends no longer counts at once, however many claims it has. Those that are left belong
//! to a number that is *leaving*, and go with the next [`Sweep`](crate::registry::event::Event::Sweep)s. A
//! producer that attaches again meanwhile gets another number, and nothing of what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::row_log::RowLog;
use super::{Attachment, Producer, RegistrationDb};
use crate::error::Result;
use crate::registry::rows::{AttachmentNumber, AttachmentRow, ProducerNumber, ProducerRow, Row};
use crate::registry::values::{MemberId, ProducerId, UnixMillis};

impl RegistrationDb {
    /// Whether claims that no longer count are still there.
    pub fn needs_sweep(&self) -> bool {
        !self.leaving.is_empty()
            || !self.releasing.is_empty()
            || self.removed_attachment().is_some()
    }

    /// The attachment of a producer at a member, if it counts.
    pub(super) fn attachment_of(
        &self,
        member: Option<MemberId>,
        producer: &ProducerId,
    ) -> Option<AttachmentNumber> {
        let number = self.numbers.get(producer)?;
        let producer = self.producers.get(number)?;
        producer.attachments.get(&member?).copied()
    }

    /// All attachments of a producer that count.
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

    pub(super) fn attach(
        &mut self,
        id: &ProducerId,
        row: AttachmentRow,
        log: &mut RowLog,
    ) -> Result<()> {
        let producer = self.producer_number(id, log)?;
        self.set_ended(producer, None, log)?;
        let row = AttachmentRow { producer, ..row };
        let member = row.member;
        let known = self.producers.get(&producer);
        match known
            .and_then(|known| known.attachments.get(&member))
            .copied()
        {
            Some(number) => {
                let incarnation = row.incarnation;
                let before = self.change_attachment(number, log, |known| *known = row)?;
                if let Some(before) = before {
                    self.index(member, before, number, false);
                    self.index(member, incarnation, number, true);
                }
            }
            None => {
                let number = self.attachment_numbers.take();
                self.index(member, row.incarnation, number, true);
                if let Some(producer) = self.producers.get_mut(&producer) {
                    producer.attachments.insert(member, number);
                }
                log.insert(&Row::Attachment(number, row.clone()))?;
                let topics = BTreeSet::new();
                self.attachments.insert(number, Attachment { row, topics });
            }
        }
        Ok(())
    }

    /// The producer's last session at the member ended. If the member was present, that is the
    /// producer's word for the attachments that are not.
    pub(super) fn detach(
        &mut self,
        member: Option<MemberId>,
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
            let ended = self
                .producers
                .get(&number)
                .and_then(|known| known.row.ended);
            self.set_ended(number, Some(ended.map_or(at, |ended| ended.max(at))), log)?;
        }
        Ok(())
    }

    /// The attachment no longer counts; its claims go, as many as this step allows.
    pub(super) fn leave(&mut self, number: AttachmentNumber, log: &mut RowLog) -> Result<()> {
        let before = self.change_attachment(number, log, |row| row.leaving = true)?;
        let Some(attachment) = self.attachments.get(&number) else {
            return Ok(());
        };
        let (member, producer) = (attachment.row.member, attachment.row.producer);
        if let Some(incarnation) = before {
            self.index(member, incarnation, number, false);
        }
        if let Some(producer) = self.producers.get_mut(&producer) {
            producer.attachments.remove(&member);
            producer.leaving += 1;
        }
        self.leaving.insert(number);
        self.sweep_attachment(number, log)
    }

    /// Removes some of what no longer counts.
    pub(super) fn sweep(&mut self, log: &mut RowLog) -> Result<()> {
        while log.has_room() {
            if let Some(number) = self.leaving.first().copied() {
                self.sweep_attachment(number, log)?;
            } else if let Some((topic, number)) = self.releasing.first().cloned() {
                self.release_topic(number, &topic, log);
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
            self.release_topic(number, &topic, log);
        }
        self.leaving.remove(&number);
        let Some(attachment) = self.attachments.remove(&number) else {
            return Ok(());
        };
        self.attachment_numbers.give_back(number);
        let producer = attachment.row.producer;
        log.remove(&Row::Attachment(number, attachment.row))?;
        if let Some(known) = self.producers.get_mut(&producer) {
            debug_assert!(known.leaving > 0, "an attachment left without a word");
            known.leaving = known.leaving.saturating_sub(1);
        }
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
        let producer = Producer {
            row,
            attachments: BTreeMap::new(),
            leaving: 0,
        };
        self.producers.insert(number, producer);
        Ok(number)
    }

    pub(super) fn set_ended(
        &mut self,
        number: ProducerNumber,
        ended: Option<UnixMillis>,
        log: &mut RowLog,
    ) -> Result<()> {
        let Some(producer) = self.producers.get_mut(&number) else {
            return Ok(());
        };
        // Nobody is left whom it could concern.
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
        let gone = self
            .producers
            .get(&number)
            .is_some_and(|producer| producer.attachments.is_empty() && producer.leaving == 0);
        if gone && let Some(producer) = self.producers.remove(&number) {
            self.numbers.remove(&producer.row.id);
            self.producer_numbers.give_back(number);
            log.remove(&Row::Producer(number, producer.row))?;
        }
        Ok(())
    }

    /// The incarnation that had recorded it before; `None` if there is no such attachment.
    pub(super) fn change_attachment(
        &mut self,
        number: AttachmentNumber,
        log: &mut RowLog,
        change: impl FnOnce(&mut AttachmentRow),
    ) -> Result<Option<u64>> {
        let Some(attachment) = self.attachments.get_mut(&number) else {
            return Ok(None);
        };
        let old = attachment.row.clone();
        change(&mut attachment.row);
        let (before, new) = (old.incarnation, attachment.row.clone());
        if old != new {
            log.replace(&Row::Attachment(number, old), &Row::Attachment(number, new))?;
        }
        Ok(Some(before))
    }
}
