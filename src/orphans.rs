//! What nsqds registered with an earlier life of this member, and did not come back for.
//!
//! Their attachments stay listed, for the nsqds are most likely alive and connect again. Those
//! that do not, within the time after which a silent nsqd is hidden, are detached.

use std::sync::Arc;

use raftlookupd_raft::Registry;
use raftlookupd_raft::storage::event::Event;

use crate::context::Context;
use crate::metrics::SessionEvent;

/// Detaches, once, what is left of earlier lives after this time.
pub(crate) async fn detach_orphans(registry: Registry, context: Arc<Context>) {
    let ours = registry.new_session().incarnation;
    tokio::time::sleep(context.inactive_producer_timeout).await;
    let member = registry.member_id();
    let orphans = registry.read(|db| {
        let earlier = |session: &raftlookupd_raft::storage::registration::SessionId| {
            session.incarnation < ours
        };
        db.sessions_of(member).filter(earlier).collect::<Vec<_>>()
    });
    if orphans.is_empty() {
        return;
    }
    tracing::warn!(
        count = orphans.len(),
        "nsqds of before the restart did not come back, detaching them"
    );
    for session in orphans {
        context.metrics.session(SessionEvent::Orphaned);
        if let Err(error) = registry.submit(Event::Detach { session }) {
            tracing::warn!(%error, "an orphan stays until the next restart");
        }
    }
}
