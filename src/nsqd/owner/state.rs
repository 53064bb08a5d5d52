//! Holds the state of the owner. The files beside this one change it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::storage::registration::{MemberId, ProducerId};
use raftlookupd_raft::storage::registration_db::Name;

use super::claims::Channels;
use super::effects::Effect;
use super::fact::Fact;
use super::ids::{SessionId, Ticket};
use super::now::{Moment, Now};
use super::producer::{Producer, Want};
use super::session::Session;
use super::settings::Settings;

/// The owner of what one member's sessions register.
#[derive(Debug)]
pub struct Owner {
    pub(super) settings: Settings,
    /// This member, once the registry has loaded.
    pub(super) me: Option<Me>,
    pub(super) now: Now,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) producers: BTreeMap<Arc<ProducerId>, Producer>,
    /// Producers with something to compare, in order.
    pub(super) ready: VecDeque<Arc<ProducerId>>,
    pub(super) flights: VecDeque<Flight>,
    pub(super) tickets: BTreeMap<Ticket, Waiting>,
    pub(super) last_session: u64,
    pub(super) last_ticket: u64,
    /// The number of REGISTERs so far.
    pub(super) registers: u64,
    /// Grows with each batch that is committed.
    pub(super) committed: u64,
    pub(super) undecided_bytes: usize,
    /// The last producer of the periodic look at all of them.
    pub(super) looked_at: Option<Arc<ProducerId>>,
    /// The last producer of the routine check.
    pub(super) audited: Option<Arc<ProducerId>>,
    pub(super) repairs: u64,
    pub(super) effects: Vec<Effect>,
    pub(super) discarded: Vec<Channels>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Me {
    pub(super) member: MemberId,
    pub(super) incarnation: u64,
    /// When the registry was loaded or replaced.
    pub(super) since: Moment,
}

/// A proposed batch that is not applied here yet.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) sequence: u64,
    /// The position in the batch of the first fact.
    pub(super) first: usize,
    pub(super) facts: Vec<Fact>,
    /// The last REGISTER before it was made. A delete acknowledged before that REGISTER is applied
    /// before this batch.
    pub(super) registers: u64,
    /// Names that were recorded already, and whose REGISTERs are confirmed with it.
    pub(super) unconfirmed: Vec<(Arc<ProducerId>, Name)>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) session: SessionId,
    pub(super) producer: Arc<ProducerId>,
    pub(super) want: Want,
    /// The last REGISTER before it.
    pub(super) registers: u64,
}

/// The limit of batches that are not applied here; at this many, the member lags behind.
pub(super) const MOST_FLIGHTS: usize = 64;

impl Owner {
    /// An owner without sessions; the registry has not loaded.
    pub fn new(settings: Settings) -> Self {
        Owner {
            settings,
            me: None,
            now: Now {
                moment: Duration::ZERO,
                clock: 0,
            },
            sessions: BTreeMap::new(),
            producers: BTreeMap::new(),
            ready: VecDeque::new(),
            flights: VecDeque::new(),
            tickets: BTreeMap::new(),
            last_session: 0,
            last_ticket: 0,
            registers: 0,
            committed: 0,
            undecided_bytes: 0,
            looked_at: None,
            audited: None,
            repairs: 0,
            effects: Vec::new(),
            discarded: Vec::new(),
        }
    }

    /// The effects since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Memory that takes long to free; to be dropped where nothing waits for it.
    pub fn take_discarded(&mut self) -> impl Sized + Send + use<> {
        std::mem::take(&mut self.discarded)
    }

    /// Whether this is the incarnation that speaks for the member.
    pub fn is(&self, incarnation: u64) -> bool {
        self.me.is_some_and(|me| me.incarnation == incarnation)
    }

    /// Whether there may be something to propose.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() && self.flights.len() < MOST_FLIGHTS
    }

    /// Queues a producer for the next batch.
    pub(super) fn wake(&mut self, id: &Arc<ProducerId>) {
        let Some(producer) = self.producers.get_mut(id) else {
            return;
        };
        if !std::mem::replace(&mut producer.is_ready, true) {
            self.ready.push_back(id.clone());
        }
    }

    pub(super) fn shared_id(&self, id: ProducerId) -> Arc<ProducerId> {
        match self.producers.get_key_value(&id) {
            Some((shared, _)) => shared.clone(),
            None => Arc::new(id),
        }
    }
}
