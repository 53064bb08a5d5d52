//! nsqds register what is there already.

use crate::clients::v1::Session;
use crate::error::Result;
use crate::figures::Unit;
use crate::load::{self, Done, Worker};
use crate::nsqds::{Nsqds, register};
use crate::size::Size;
use crate::stage::Stage;

/// 10 sessions, one command after the other.
pub(super) const REPEAT: &str = "register-present";
/// What that adds to the log.
pub(super) const REPEAT_ENTRIES: &str = "register-present-log-entries";
/// New sessions of the nsqds of a member that was restarted, pipelined.
pub(super) const RECONNECT: &str = "register-reconnected";
/// What that adds to the log.
pub(super) const RECONNECT_ENTRIES: &str = "register-reconnected-log-entries";

/// Sessions repeat what they have.
pub(super) async fn repeat(stage: &mut Stage<'_>, nsqds: &mut Nsqds, size: Size) -> Result<()> {
    if !stage.wants(REPEAT) {
        return Ok(());
    }
    let before = stage.target.log_index().await?;
    let sessions = nsqds.take_sessions().into_iter();
    let workers = sessions.map(|session| Repeating {
        session,
        size,
        next: 0,
    });
    let (workers, measured) = load::run(workers.collect(), stage.load()).await?;
    let sessions = workers.into_iter().map(|worker| worker.session);
    nsqds.put_sessions(sessions.collect());
    stage.note_load(REPEAT, measured);
    note_entries(stage, REPEAT_ENTRIES, before).await
}

/// The nsqds of a member that was restarted come back.
pub(super) async fn reconnect(
    stage: &mut Stage<'_>,
    nsqds: &mut Nsqds,
    member: usize,
) -> Result<()> {
    let before = stage.target.log_index().await?;
    let again = nsqds.reconnect(&stage.target, member).await?;
    stage.note_rate(
        RECONNECT,
        again.registrations,
        again.took,
        again.unavailable,
    );
    note_entries(stage, RECONNECT_ENTRIES, before).await
}

/// Notes by how much the log has grown since then.
pub(super) async fn note_entries(
    stage: &mut Stage<'_>,
    workload: &'static str,
    before: Option<u64>,
) -> Result<()> {
    if let (Some(before), Some(after)) = (before, stage.target.log_index().await?) {
        stage.note(workload, Unit::Entries, after.saturating_sub(before) as f64);
    }
    Ok(())
}

struct Repeating {
    session: Session,
    size: Size,
    next: usize,
}

impl Worker for Repeating {
    async fn operate(&mut self) -> Result<Done> {
        let number = self.next % self.size.registrations_of_an_nsqd();
        self.next += 1;
        let line = register(self.size, number);
        self.session.command(&line).await.map(Done::from)
    }
}
