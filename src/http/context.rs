//! Holds what HTTP requests need of their member.

use std::sync::Arc;
use std::time::Duration;

use crate::accept::Slots;
use raftlookupd_raft::storage::registration_db::Lifetimes;
use raftlookupd_raft::{Error, Registry, Result};
use tokio::sync::watch;

use crate::clock::millis;
use crate::http::long_answers::LongAnswers;
use crate::logging::Log;
use crate::metrics::Metrics;
use crate::nsqd::keeper::Keeper;

/// How long a request waits for a member that is still loading.
const LOADING: Duration = Duration::from_millis(500);

/// The state of all handlers.
pub(crate) type Shared = Arc<Context>;

/// Shared by all requests.
#[derive(Debug)]
pub(crate) struct Context {
    /// A session without PING for longer is hidden from lookups.
    pub(crate) inactive_producer_timeout: Duration,
    /// How long a tombstone hides a producer.
    pub(crate) tombstone_lifetime: Duration,
    /// Connections of the V1 interface, for metrics.
    pub(crate) tcp_slots: Slots,
    /// The limit of HTTP connections; further ones wait in the system's queue.
    pub(crate) http_slots: Slots,
    /// The log of this process, whose level can be changed.
    pub(crate) log: Log,
    /// What operators watch.
    pub(crate) metrics: Arc<Metrics>,
    /// Where long answers are built.
    pub(crate) long_answers: LongAnswers,
    /// The sessions of nsqds.
    pub(crate) keeper: Keeper,
    /// This member's share of the cluster, once it has loaded.
    pub(crate) registry: watch::Receiver<Option<Registry>>,
}

impl Context {
    /// The registry. A request waits a moment for it to load.
    ///
    /// # Errors
    /// [`Error::Loading`].
    pub(crate) async fn registry(&self) -> Result<Registry> {
        if let Some(registry) = &*self.registry.borrow() {
            return Ok(registry.clone());
        }
        let mut slot = self.registry.clone();
        let loaded = slot.wait_for(Option::is_some);
        let loaded = tokio::time::timeout(LOADING, loaded).await;
        let registry = loaded.ok().and_then(|slot| slot.ok()?.clone());
        registry.ok_or(Error::Loading)
    }

    /// The times that queries about producers need.
    pub(crate) fn lifetimes(&self, registry: &Registry) -> Lifetimes {
        Lifetimes {
            now: registry.now(),
            tombstone: millis(self.tombstone_lifetime),
            away: millis(self.inactive_producer_timeout),
        }
    }
}
