//! Finds out which process speaks for each member, and keeps that on disk.
//!
//! The process that dials says which member it is; whether it is that member, only the member's
//! address can show. So it is dialled back, once for each start of a process: who answers there with
//! the same start id is the member. See [`Acquaintances`] for the rules.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::record_file::RecordFile;
use raftlookupd_storage::registration::MemberId;

use crate::peer::acquaintances::Acquaintances;
use crate::peer::connection::{Connector, DialError, Greeted, greet};
use crate::peer::handshake::{Me, Party, Place, Refusal};
use crate::peer::lineage::{Known, Promises};
use crate::peer::message::Class;
use crate::types::PeerNode;

const FILE: &str = "peers";

/// Deadline for dialling back: two round trips across half the world, or a packet that is sent again. The
/// side that has dialled waits meanwhile.
const DIAL_BACK: Duration = Duration::from_millis(1500);

/// A member that is at another address than the listed one has moved after this time: it may be a copy
/// that was started before its original.
const MOVES_AFTER: Duration = Duration::from_secs(3);

/// The incarnation that the registry records of a member; 0 if none.
type Incarnations = dyn Fn(MemberId) -> u64 + Send + Sync;

/// The processes that speak for the other members.
pub(crate) struct Speakers {
    me: Arc<Me>,
    connector: Arc<Connector>,
    /// The addresses in `--initial-cluster`, by name.
    listed: BTreeMap<String, String>,
    incarnations: OnceLock<Box<Incarnations>>,
    peers: Mutex<Peers>,
    /// `None` if nothing is kept. Locked while it is written, so that nothing older comes last.
    file: Option<Mutex<RecordFile>>,
}

#[derive(Default)]
struct Peers {
    met: Acquaintances,
    /// Something is not stored yet.
    changed: bool,
    /// The processes that say that their member has moved, and since when.
    moving: BTreeMap<MemberId, (u64, Instant)>,
}

/// Forgets all members: those of a new cluster are others.
///
/// # Errors
/// It cannot be written.
pub(crate) fn forget_all(data_path: &Path) -> raftlookupd_storage::Result<()> {
    let nobody = Acquaintances::default().to_stored();
    let bytes = encode("the peers of a member", &nobody)?;
    RecordFile::new(data_path.join(FILE)).save(&bytes)
}

impl Speakers {
    /// As they were stored in a data path.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn load(
        me: Arc<Me>,
        connector: Arc<Connector>,
        listed: BTreeMap<String, String>,
        data_path: &Path,
    ) -> raftlookupd_storage::Result<Self> {
        let file = RecordFile::new(data_path.join(FILE));
        let stored = match file.load()? {
            Some(bytes) => decode("the peers of a member", &bytes)?,
            None => Default::default(),
        };
        let mut speakers = Speakers::forgetful(me, connector);
        speakers.listed = listed;
        speakers.file = Some(Mutex::new(file));
        speakers.peers().met = Acquaintances::from_stored(stored);
        Ok(speakers)
    }

    /// Nobody is known, and nothing is kept.
    pub(crate) fn forgetful(me: Arc<Me>, connector: Arc<Connector>) -> Self {
        Speakers {
            me,
            connector,
            listed: BTreeMap::new(),
            incarnations: OnceLock::new(),
            peers: Mutex::default(),
            file: None,
        }
    }

    /// From now on the registry is asked as well. Only the first call counts.
    pub(crate) fn ask_registry(
        &self,
        incarnations: impl Fn(MemberId) -> u64 + Send + Sync + 'static,
    ) {
        let _ = self.incarnations.set(Box::new(incarnations));
    }

    /// What a member has to remember.
    pub(crate) fn known(&self, id: MemberId) -> Option<Known> {
        let recorded = self.incarnations.get().map_or(0, |recorded| recorded(id));
        self.peers().met.known(id, recorded)
    }

    /// Whether this process speaks for the member.
    pub(crate) fn speaks(&self, id: MemberId, start: u64) -> bool {
        self.peers().met.speaks(id, start)
    }

    /// Where the members were reached.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let peers = self.peers();
        let addresses = peers.met.all().map(|(_, met)| met.address.clone());
        addresses.collect()
    }

    /// Notes what the process that speaks for a member has promised; stored a little later.
    pub(crate) fn promised(&self, id: MemberId, promised: Promises) {
        let mut peers = self.peers();
        let grows = peers.met.promised(id, promised);
        peers.changed |= grows;
    }

    /// Notes the process that was reached at a member's address. On disk when this returns: nothing
    /// of what it promises may be forgotten.
    ///
    /// # Errors
    /// It cannot be stored.
    pub(crate) async fn met(
        self: &Arc<Self>,
        id: MemberId,
        party: &Party,
        address: &str,
    ) -> io::Result<()> {
        if self.speaks(id, party.start) {
            return Ok(());
        }
        let noted = self.peers().met.note(id, party.start, &party.name, address);
        if noted {
            self.peers().changed = true;
            let speakers = self.clone();
            let stored = tokio::task::spawn_blocking(move || speakers.store()).await;
            stored
                .map_err(io::Error::other)?
                .map_err(io::Error::other)?;
        }
        self.peers().met.reached(id, party.start);
        Ok(())
    }

    /// Stores what has changed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn store(&self) -> raftlookupd_storage::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = {
            let mut peers = self.peers();
            if !std::mem::take(&mut peers.changed) {
                return Ok(());
            }
            peers.met.to_stored()
        };
        let saved = encode("the peers of a member", &stored).and_then(|bytes| file.save(&bytes));
        if saved.is_err() {
            self.peers().changed = true;
        }
        saved
    }

    /// Whether a process that has dialled speaks for the member that it says it is. `recorded` is
    /// the member's address, if this member knows it.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) async fn check(
        self: &Arc<Self>,
        id: MemberId,
        from: &Party,
        recorded: Option<String>,
    ) -> Result<(), Refusal> {
        if self.speaks(id, from.start) {
            return Ok(());
        }
        // All at once: the second address costs no time, and the first one decides if it answers.
        let addresses = self.addresses_of(id, &from.name, recorded.as_deref());
        let answers: Vec<_> = addresses
            .into_iter()
            .map(|address| {
                let (speakers, from) = (self.clone(), from.clone());
                let answer = async move { speakers.dial_back(id, &from, &address).await };
                tokio::spawn(answer)
            })
            .collect();
        let mut failed = None;
        for answer in answers {
            match answer.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(elsewhere @ Refusal::NotAtItsAddress { .. })) => {
                    failed.get_or_insert(elsewhere);
                }
                Ok(Err(refusal)) => return Err(refusal),
                // It was ended with its runtime.
                Err(_) => {}
            }
        }
        // A member of which no address is known has joined a moment ago.
        failed.map_or(Ok(()), Err)
    }

    /// Whether a member that was known to be elsewhere has moved to this address: the process there
    /// says so, and none answers for the member where it was.
    ///
    /// # Errors
    /// Why it has not.
    pub(crate) async fn check_moved(
        self: &Arc<Self>,
        place: Place,
        node: &PeerNode,
        address: &str,
    ) -> Result<(), String> {
        let is_member = |there: &Greeted| {
            there.party.place == Some(place) && there.party.instance == node.instance
        };
        let before = self.greet(&node.address, None).await;
        if before.as_ref().is_ok_and(is_member) && node.address != address {
            return Err(format!("{} answers at {}", node.name, node.address));
        }
        let greeted = self.greet(address, self.known(place.id)).await;
        let there = greeted.map_err(|error| format!("no answer at {address}: {error}"))?;
        if let Some(refusal) = &there.refused {
            return Err(refusal.to_string());
        }
        if !is_member(&there) {
            return Err(format!("{} answers at {address}", there.party.name));
        }
        if self
            .listed
            .get(&node.name)
            .is_none_or(|listed| listed != address)
            && self.moving_for(place.id, there.party.start) < MOVES_AFTER
        {
            let before = &node.address;
            return Err(format!("{} may still come back at {before}", node.name));
        }
        let met = self.met(place.id, &there.party, address).await;
        met.map_err(|error| error.to_string())
    }

    /// For how long this process has said that its member has moved.
    fn moving_for(&self, id: MemberId, start: u64) -> Duration {
        let mut peers = self.peers();
        let now = (start, Instant::now());
        let since = peers.moving.entry(id).or_insert(now);
        if since.0 != start {
            *since = now;
        }
        since.1.elapsed()
    }

    /// Where a member may be reached, in the order to try: where it was reached last, which is another
    /// address while a move is not recorded yet; its recorded address; the listed one.
    pub(crate) fn addresses_of(
        &self,
        id: MemberId,
        name: &str,
        recorded: Option<&str>,
    ) -> Vec<String> {
        let met = self.peers().met.get(id).map(|met| met.address.clone());
        let recorded = recorded.map(String::from);
        let listed = self.listed.get(name).cloned();
        let mut addresses: Vec<String> = Vec::new();
        for address in [met, recorded, listed].into_iter().flatten() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Whether this is one of the addresses where a member may be reached.
    pub(crate) fn may_be_at(&self, id: MemberId, node: &PeerNode, address: &str) -> bool {
        let is_listed = || self.listed.get(&node.name).is_some_and(|it| it == address);
        let is_met = || {
            self.peers()
                .met
                .get(id)
                .is_some_and(|met| met.address == address)
        };
        node.address == address || is_listed() || is_met()
    }

    async fn dial_back(
        self: &Arc<Self>,
        id: MemberId,
        from: &Party,
        address: &str,
    ) -> Result<(), Refusal> {
        let not_there = |reason: String| Refusal::NotAtItsAddress {
            id,
            address: address.into(),
            reason: reason.chars().take(200).collect(),
        };
        let greeted = self.greet(address, self.known(id)).await;
        let there = greeted.map_err(|error| not_there(error.to_string()))?;
        let is_member = there.party.place == from.place && there.party.instance == from.instance;
        match there.refused {
            _ if !is_member => Err(not_there(format!("{} answers there", there.party.name))),
            _ if there.party.start != from.start => Err(Refusal::Copy {
                id,
                address: address.into(),
            }),
            Some(Refusal::ReceiverForgot) => Err(Refusal::SenderForgot),
            _ => {
                let met = self.met(id, &there.party, address).await;
                met.map_err(|error| not_there(error.to_string()))
            }
        }
    }

    /// Asks who is at an address.
    ///
    /// # Errors
    /// [`DialError`] if that cannot be told.
    pub(crate) async fn greet(
        &self,
        address: &str,
        known: Option<Known>,
    ) -> Result<Greeted, DialError> {
        let greeted = greet(&*self.connector, &self.me, known, address, Class::Small);
        let greeted = tokio::time::timeout(DIAL_BACK, greeted).await;
        greeted.unwrap_or_else(|late| Err(io::Error::from(late).into()))
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
