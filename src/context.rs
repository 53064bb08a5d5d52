//! Holds what all connections and HTTP requests share.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use raftlookupd_raft::accept::Slots;
use raftlookupd_raft::storage::registration_db::Lifetimes;
use raftlookupd_raft::{Error, Registry, Result};
use tokio::sync::watch;

use crate::http::long_answers::LongAnswers;
use crate::logging::Log;
use crate::metrics::{Metrics, SessionEvent};
use crate::nsqd::keeper::Keeper;
use crate::nsqd::owner::Verdict;
use crate::nsqd::protocol::error::ProtocolError;
use crate::nsqd::protocol::reply::OK;

/// How long a request waits for a member that is still loading.
const LOADING: Duration = Duration::from_millis(500);

/// Shared by all connections and requests.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where nsqd reaches this member's HTTP interface; told in the answer to IDENTIFY.
    pub(crate) broadcast_address: String,
    /// The machine's name for itself.
    pub(crate) hostname: String,
    /// The port of the V1 interface.
    pub(crate) tcp_port: u16,
    /// The port of the HTTP interface.
    pub(crate) http_port: u16,
    /// Ours; nsqd only logs it.
    pub(crate) version: String,
    /// A session without PING for so long is hidden from lookups.
    pub(crate) inactive_producer_timeout: Duration,
    /// How long a tombstone hides a producer.
    pub(crate) tombstone_lifetime: Duration,
    /// For nsqds; more wait in the system's queue.
    pub(crate) tcp_slots: Slots,
    /// For everybody else.
    pub(crate) http_slots: Slots,
    /// What operators read.
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
    /// The registry, for which a request waits a moment if need be.
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

    /// The answer to IDENTIFY.
    pub(crate) fn introduction(&self) -> Vec<u8> {
        let introduction = serde_json::json!({
            "tcp_port": self.tcp_port,
            "http_port": self.http_port,
            "version": self.version,
            "hostname": self.hostname,
            "broadcast_address": self.broadcast_address,
        });
        introduction.to_string().into_bytes()
    }

    /// The answer to a command of an nsqd that ended so.
    pub(crate) fn body_of(&self, verdict: Verdict) -> Vec<u8> {
        match verdict {
            Verdict::Done => OK.to_vec(),
            Verdict::Unavailable | Verdict::Confirm => {
                self.metrics.session(SessionEvent::Unavailable);
                ProtocolError::Unavailable.text()
            }
        }
    }
}

/// The wall clock, in milliseconds since the Unix epoch; 0 before it.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
