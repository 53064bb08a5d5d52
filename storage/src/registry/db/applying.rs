//! Applies a proposal in steps of bounded work, so that readers never wait long for the registry.

use super::row_log::RowLog;
use super::{Change, Discarded, Note, Origin, RegistrationDb, Source};
use crate::error::{Error, Result};
use crate::registry::event::{BatchResult, Event, MemberBatch, Proposal, Refusal};
use crate::registry::values::MemberId;

/// A step ends after this many rows or events: a few hundred microseconds.
const STEP_ROWS: usize = 512;
const STEP_EVENTS: usize = 128;

/// The result of applying a [`Proposal`].
#[derive(Debug, Default)]
pub struct Applied {
    /// One result per batch, in order.
    pub results: Vec<BatchResult>,
    /// What to write, in order. The last change of a key counts.
    pub changes: Vec<Change>,
}

/// The result of one step.
#[derive(Debug)]
pub struct Step {
    /// What to write.
    pub changes: Vec<Change>,
    /// Notes for the member that they are collected for.
    pub notes: Vec<Note>,
    /// To be dropped outside of locks.
    pub discarded: Discarded,
    /// Whether this was the last step.
    pub done: bool,
}

/// A proposal that is being applied.
#[derive(Debug)]
pub struct Applying<'a> {
    proposal: &'a Proposal,
    noted: Option<MemberId>,
    log: RowLog,
    results: Vec<BatchResult>,
    /// How many events of the current batch, or of the leader's own, have been applied.
    position: usize,
    refused: Vec<(u32, Refusal)>,
}

impl RegistrationDb {
    /// Applies a whole proposal, except batches that were applied before.
    ///
    /// # Errors
    /// [`Encoding`](crate::Error::Encoding) if a row cannot be represented,
    /// [`Invariant`](crate::Error::Invariant) if the registry is inconsistent. It is then unusable,
    /// and the member must stop.
    pub fn apply(&mut self, proposal: &Proposal) -> Result<Applied> {
        let mut applying = Applying::new(proposal, None);
        let mut changes = Vec::new();
        loop {
            let mut step = applying.step(self)?;
            changes.append(&mut step.changes);
            if step.done {
                let results = applying.results();
                return Ok(Applied { results, changes });
            }
        }
    }
}

impl<'a> Applying<'a> {
    /// Starts to apply a proposal. Notes are collected for the member `noted`.
    pub fn new(proposal: &'a Proposal, noted: Option<MemberId>) -> Self {
        Applying {
            proposal,
            noted,
            log: RowLog::default(),
            results: Vec::new(),
            position: 0,
            refused: Vec::new(),
        }
    }

    /// Applies some events. Nothing else may change the registry between two steps.
    ///
    /// # Errors
    /// As [`RegistrationDb::apply`].
    pub fn step(&mut self, db: &mut RegistrationDb) -> Result<Step> {
        self.log.state_hash = db.state_hash;
        let mut events = 0;
        let done = loop {
            if self.log.work() >= STEP_ROWS || events >= STEP_EVENTS {
                break false;
            }
            events += 1;
            if !self.advance(db)? {
                break true;
            }
        };
        db.state_hash = self.log.state_hash;
        count(&mut db.claim_count, &mut self.log.claims, "claims")?;
        count(&mut db.channel_count, &mut self.log.channels, "channels")?;
        if cfg!(debug_assertions) && done {
            db.check_sometimes()?;
        }
        let (changes, notes, discarded) = self.log.take();
        Ok(Step {
            changes,
            notes,
            discarded,
            done,
        })
    }

    /// One result per batch; complete after the last step.
    pub fn results(self) -> Vec<BatchResult> {
        debug_assert!(
            self.results.len() == self.proposal.batches.len(),
            "results are requested before the last step"
        );
        self.results
    }

    /// Applies the next event, or finishes a batch. Returns `false` if there is nothing left.
    fn advance(&mut self, db: &mut RegistrationDb) -> Result<bool> {
        let proposal = self.proposal;
        if let Some(batch) = proposal.batches.get(self.results.len()) {
            if self.position == 0
                && self.refused.is_empty()
                && let Some(known) = db.known_result(batch)
            {
                self.results.push(known);
                return Ok(true);
            }
            match batch.events.get(self.position) {
                Some(event) => self.apply_of(batch, event, db)?,
                None => self.finish(batch, db)?,
            }
            return Ok(true);
        }
        let Some(event) = proposal.own.get(self.position) else {
            return Ok(false);
        };
        self.position += 1;
        let source = Source {
            origin: None,
            noted: self.noted,
        };
        self.log.begin_event();
        // The leader re-reads the registry instead of waiting for a refusal.
        let _ = db.apply_event(source, event, &mut self.log)?;
        Ok(true)
    }

    fn apply_of(
        &mut self,
        batch: &MemberBatch,
        event: &Event,
        db: &mut RegistrationDb,
    ) -> Result<()> {
        if self.position == 0 {
            db.begin_batch(batch, &mut self.log)?;
        }
        let source = Source {
            origin: Some(Origin {
                member: batch.member,
                incarnation: batch.incarnation,
                at: batch.at,
            }),
            noted: self.noted,
        };
        self.log.begin_event();
        if let Err(refusal) = db.apply_event(source, event, &mut self.log)? {
            let position = u32::try_from(self.position).unwrap_or(u32::MAX);
            debug_assert!(
                self.refused.last().is_none_or(|(last, _)| *last < position),
                "refusals are out of order"
            );
            self.refused.push((position, refusal));
        }
        self.position += 1;
        Ok(())
    }

    fn finish(&mut self, batch: &MemberBatch, db: &mut RegistrationDb) -> Result<()> {
        if self.position == 0 {
            db.begin_batch(batch, &mut self.log)?;
        }
        debug_assert!(
            self.position == batch.events.len(),
            "a batch ends before its events are applied"
        );
        self.position = 0;
        let refused = std::mem::take(&mut self.refused);
        db.end_batch(batch, &refused, &mut self.log)?;
        if self.noted == Some(batch.member) {
            self.log.note(Note::Batch {
                incarnation: batch.incarnation,
                sequence: batch.sequence,
                refused: refused.clone(),
            });
        }
        self.results.push(BatchResult::Applied { refused });
        Ok(())
    }
}

/// Adds what a step has added or removed.
fn count(total: &mut usize, change: &mut isize, what: &str) -> Result<()> {
    let changed = total.checked_add_signed(std::mem::take(change));
    *total = changed.ok_or_else(|| {
        Error::invariant(format!(
            "more {what} were removed than the {total} there were"
        ))
    })?;
    Ok(())
}
