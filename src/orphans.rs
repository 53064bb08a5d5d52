//! What nsqds registered with an earlier life of this member, and did not come back for.
//!
//! Their attachments stay listed, for the nsqds are most likely alive and connect again. Those
//! that do not, within the time after which a silent nsqd is hidden, are detached: a few at a
//! time, so that those that do connect need not wait behind thousands that did not.

use std::sync::Arc;

use raftlookupd_raft::storage::event::Event;
use raftlookupd_raft::storage::registration::SessionId;
use raftlookupd_raft::{Registry, Result};

use crate::context::Context;
use crate::metrics::SessionEvent;

/// Detached at the same time, and committed before more are.
const AT_ONCE: usize = 16;

/// Detaches, once, what is left of earlier lives after this time.
pub(crate) async fn detach_orphans(registry: Registry, context: Arc<Context>) {
    let ours = registry.new_session().incarnation;
    tokio::time::sleep(context.inactive_producer_timeout).await;
    let member = registry.member_id();
    let earlier = |session: &SessionId| session.incarnation < ours;
    let orphans: Vec<SessionId> =
        registry.read(|db| db.sessions_of(member).filter(earlier).collect());
    if orphans.is_empty() {
        return;
    }
    let count = orphans.len();
    tracing::warn!(
        count,
        "nsqds of before the restart did not come back, detaching them"
    );
    for some in orphans.chunks(AT_ONCE) {
        match detach(&registry, some).await {
            Ok(()) => some
                .iter()
                .for_each(|_| context.metrics.session(SessionEvent::Orphaned)),
            Err(error) => {
                tracing::warn!(%error, "orphans stay until the next restart");
                return;
            }
        }
    }
    tracing::info!(count, "nsqds of before the restart are detached");
}

/// An nsqd that has come back since has a newer session, which this does not touch.
async fn detach(registry: &Registry, sessions: &[SessionId]) -> Result<()> {
    let submit = |session: &SessionId| registry.submit(Event::Detach { session: *session });
    let pending: Vec<_> = sessions.iter().map(submit).collect::<Result<_>>()?;
    for fate in pending {
        fate.await?;
    }
    Ok(())
}
