//! How an attachment ends. It is hidden at once, and its claims go with it; but what one log
//! entry changes is bounded, so those of an nsqd with very many topics go in several, with a
//! [`Sweep`](crate::event::Event::Sweep) each.
//!
//! An attachment that is on its way out belongs to [`NOBODY`]. If the nsqd comes back before it
//! is gone, its new session takes it over like any other.

use super::RegistrationDb;
use super::row_log::RowLog;
use crate::error::Result;
use crate::registration::{MemberId, SessionId};
use crate::rows::{MemberRow, ProducerNumber, Row};

/// Rows after which a log entry ends no more claims; a topic more or less.
const ROWS: usize = 16 * 1024;

/// The session of an attachment that is on its way out.
pub(super) const NOBODY: SessionId = SessionId {
    incarnation: 0,
    number: 0,
};

impl RegistrationDb {
    /// Whether claims of sessions that ended are still there, hidden.
    pub fn needs_sweep(&self) -> bool {
        !self.leaving.is_empty()
    }

    pub(super) fn detach(
        &mut self,
        member: MemberId,
        session: SessionId,
        log: &mut RowLog,
    ) -> Result<()> {
        match self.sessions.remove(&(member, session)) {
            Some(number) => self.let_go(number, member, log),
            None => Ok(()),
        }
    }

    /// The member's row stays, with the highest incarnation there is: a batch of the removed
    /// member that arrives late must not be applied.
    pub(super) fn remove_member(&mut self, member: MemberId, log: &mut RowLog) -> Result<()> {
        let sessions: Vec<SessionId> = self.sessions_of(member).collect();
        for session in sessions {
            self.detach(member, session, log)?;
        }
        self.change_member(member, log, |row| *row = MemberRow::removed())
    }

    pub(super) fn sweep(&mut self, log: &mut RowLog) -> Result<()> {
        while log.len() < ROWS
            && let Some((member, number)) = self.leaving.first().copied()
        {
            self.let_go(number, member, log)?;
        }
        Ok(())
    }

    /// Ends as many of the attachment's claims as this log entry may, and it with the last.
    fn let_go(&mut self, number: ProducerNumber, member: MemberId, log: &mut RowLog) -> Result<()> {
        while log.len() < ROWS {
            let attachment = self.attachment_mut(number, member);
            let Some(topic) = attachment.and_then(|attachment| attachment.topics.pop_first())
            else {
                return self.forget(number, member, log);
            };
            self.release_topic(number, member, &topic, log)?;
        }
        self.hide(number, member, log)
    }

    fn hide(&mut self, number: ProducerNumber, member: MemberId, log: &mut RowLog) -> Result<()> {
        if !self.leaving.insert((member, number)) {
            return Ok(());
        }
        let Some(attachment) = self.attachment_mut(number, member) else {
            return Ok(());
        };
        let old = attachment.row.clone();
        attachment.row.session = NOBODY;
        attachment.row.active = false;
        // What the nsqd told other members counts, not what it told this one.
        attachment.row.at = 0;
        let new = attachment.row.clone();
        log.replace(
            &Row::Attachment(number, member, old),
            &Row::Attachment(number, member, new),
        )
    }

    fn forget(&mut self, number: ProducerNumber, member: MemberId, log: &mut RowLog) -> Result<()> {
        self.leaving.remove(&(member, number));
        let Some(producer) = self.producers.get_mut(&number) else {
            return Ok(());
        };
        if let Some(attachment) = producer.attachments.remove(&member) {
            log.remove(&Row::Attachment(number, member, attachment.row))?;
        }
        if producer.attachments.is_empty()
            && let Some(producer) = self.producers.remove(&number)
        {
            self.numbers.remove(&producer.id);
            log.remove(&Row::Producer(number, producer.id))?;
        }
        Ok(())
    }
}
