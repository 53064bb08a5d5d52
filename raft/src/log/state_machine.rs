//! Implements openraft's state machine trait over storage's [`RegistrationStore`] and
//! [`SnapshotFiles`].
//!
//! A snapshot is a file, so that the log up to there may be purged. It is copied from the tables in the
//! background, and it is what a peer is sent.

use std::sync::Arc;
use std::time::Duration;

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder,
    StorageIOError,
};
use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::event::{BatchResult, Proposal};
use raftlookupd_storage::registration::MemberId;
use raftlookupd_storage::registration_db::{Applying, Change, RegistrationDb, Step};
use raftlookupd_storage::registration_store::{Frozen, RegistrationStore};
use raftlookupd_storage::snapshots::SnapshotFiles;
use raftlookupd_storage::store::Store;
use raftlookupd_storage::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use crate::cluster::identity::Incarnation;
use crate::log::durable_index::DurableIndex;
use crate::log::log_facts::LogFacts;
use crate::log::log_store::LogStore;
use crate::log::registry_state::{AppliedPoint, RegistryState};
use crate::owner::SharedOwner;
use crate::types::{
    Entry, LogId, ProposalResult, Snapshot, SnapshotMeta, StorageError, StoredMembership,
    TypeConfig,
};

/// How often it is tried to freeze tables that are frozen.
const FREEZE_INTERVAL: Duration = Duration::from_millis(20);

/// Up to where the registry has applied the log, and the membership at that point; stored in
/// one step with the rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct AppliedMark {
    last_applied: Option<LogId>,
    membership: StoredMembership,
}

/// Applies committed entries to the registry, in memory and on disk.
pub struct StateMachine {
    state: Arc<RegistryState>,
    /// Up to where `state` has the log applied. Closed when this ends.
    applied: watch::Sender<AppliedPoint>,
    /// The sessions that have to know what is applied.
    served: Option<Served>,
    store: RegistrationStore,
    snapshots: SnapshotFiles,
    log: DurableIndex,
    facts: Arc<LogFacts>,
    mark: AppliedMark,
    rebuilt: bool,
}

/// The sessions of this member, and what a snapshot means for them.
struct Served {
    member: MemberId,
    owner: SharedOwner,
    incarnation: Incarnation,
}

impl StateMachine {
    /// Loads what is on disk; what it applies will come from this log.
    ///
    /// # Errors
    /// Those of [`Store::load_registry`].
    pub fn load(store: &Store, log: &LogStore) -> Result<Self> {
        let loaded = store.load_registry(|mark| {
            let mark: AppliedMark = decode("an applied mark", mark)?;
            Ok(mark.last_applied.map(|id| id.index))
        })?;
        let db = loaded.db;
        let mark = match loaded.mark {
            Some(mark) => decode("an applied mark", &mark)?,
            None => AppliedMark::default(),
        };
        let point = AppliedPoint {
            log_id: mark.last_applied,
            state_hash: db.state_hash(),
        };
        let (applied, its_end) = watch::channel(point);
        let state = Arc::new(RegistryState::new(db, its_end));
        Ok(StateMachine {
            state,
            applied,
            served: None,
            store: store.registrations(),
            snapshots: store.snapshots(),
            log: log.durable_index(),
            facts: log.facts(),
            mark,
            rebuilt: loaded.rebuilt.is_some(),
        })
    }

    /// Whether the registry's tables were damaged and had to be rebuilt.
    pub(crate) fn rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// The membership where the registry has applied the log.
    pub(crate) fn membership(&self) -> StoredMembership {
        self.mark.membership.clone()
    }

    pub(crate) fn state(&self) -> Arc<RegistryState> {
        self.state.clone()
    }

    /// From now on this owner is told what is applied.
    pub(crate) fn serve(&mut self, member: MemberId, owner: SharedOwner, incarnation: Incarnation) {
        let now = *incarnation.watch().borrow();
        self.state.read(|db| owner.lock().loaded(member, now, db));
        self.served = Some(Served {
            member,
            owner,
            incarnation,
        });
    }

    async fn apply_entries(&mut self, entries: Vec<Entry>) -> Result<Vec<ProposalResult>> {
        let mut answers = Vec::new();
        for entry in entries {
            let mut answer = ProposalResult::default();
            let mut changes = Vec::new();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) => {
                    (answer.results, changes) = self.apply_proposal(&proposal).await?;
                }
                EntryPayload::Membership(membership) => {
                    self.mark.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            debug_assert!(
                self.mark.last_applied < Some(entry.log_id),
                "the applied index goes back to {}",
                entry.log_id
            );
            self.mark.last_applied = Some(entry.log_id);
            answers.push(answer);
            // Reads need not wait for the disk: what is not written yet, the log replays.
            self.publish();
            let mark = encode("an applied mark", &self.mark)?;
            if self.state.read(|db| self.store.note(db, changes, &mark)) {
                aside(|| self.state.read(|db| self.store.write(db)))?;
            }
        }
        Ok(answers)
    }

    /// In steps, so that readers and sessions never wait long for one.
    async fn apply_proposal(&self, proposal: &Proposal) -> Result<(Vec<BatchResult>, Vec<Change>)> {
        let noted = self.served.as_ref().map(|served| served.member);
        let mut applying = Applying::new(proposal, noted);
        let mut changes = Vec::new();
        loop {
            let mut step = self.step(&mut applying)?;
            changes.append(&mut step.changes);
            if step.done {
                return Ok((applying.results(), changes));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Locks the owner meanwhile, so that it never sees a change before it has its notes on it.
    fn step(&self, applying: &mut Applying<'_>) -> Result<Step> {
        let mut owner = self.served.as_ref().map(|served| served.owner.lock());
        let mut step = self.state.write(|db| applying.step(db))?;
        let notes = std::mem::take(&mut step.notes);
        if let Some(owner) = &mut owner
            && !notes.is_empty()
        {
            let proposes = self.state.read(|db| owner.applied(notes, db));
            if let Some(served) = self.served.as_ref().filter(|_| proposes) {
                served.owner.waker().notify_one();
            }
        }
        drop(owner);
        drop(std::mem::take(&mut step.discarded));
        Ok(step)
    }

    fn publish(&self) {
        self.applied.send_replace(AppliedPoint {
            log_id: self.mark.last_applied,
            state_hash: self.state.read(RegistrationDb::state_hash),
        });
    }

    fn install(&mut self, meta: &SnapshotMeta, mut file: std::fs::File) -> Result<()> {
        let decoded = self.snapshots.read_received(&mut file)?;
        let mark: AppliedMark = decode("an applied mark", &decoded.mark)?;
        let (Some(last), true) = (mark.last_applied, mark.last_applied == meta.last_log_id) else {
            return Err(Error::Encoding {
                what: "a snapshot",
                reason: "it holds another position than it was announced with".into(),
            });
        };
        // In this order: tables that end before the newest file count as damaged.
        self.store.install(&decoded.db, &decoded.mark)?;
        self.snapshots.adopt(&mut file, last.index)?;
        self.mark = mark;
        let replaced = self.replace(decoded.db)?;
        self.publish();
        drop(replaced);
        Ok(())
    }

    /// Shows another registry; returns the old one, which takes a while to free.
    fn replace(&mut self, db: RegistrationDb) -> Result<RegistrationDb> {
        let show = |db| self.state.write(|shown| std::mem::replace(shown, db));
        let Some(served) = &mut self.served else {
            return Ok(show(db));
        };
        let (member, next) = (served.member, served.incarnation.next()?);
        let mut owner = served.owner.lock();
        let replaced = show(db);
        self.state.read(|db| owner.replaced(member, next, db));
        drop(owner);
        served.incarnation.announce();
        Ok(replaced)
    }

    /// The newest snapshot, after a check: a peer would not survive a damaged one. If there is none
    /// though there was one, it is taken now.
    fn export(&self) -> Result<Option<Snapshot>> {
        let Some(newest) = self.snapshots.newest() else {
            return Ok(None);
        };
        let opened = self.snapshots.open_whole(newest).or_else(|error| {
            tracing::warn!(index = newest, %error, "a snapshot file is damaged: taking another");
            self.snapshots.set_aside(newest);
            let index = applied_index(&self.mark);
            self.freeze_soon()?.write_to(&self.snapshots, index)?;
            self.snapshots.open_whole(index)
        });
        let (file, mark) = opened?;
        Ok(Some(Snapshot {
            meta: snapshot_meta(&decode("an applied mark", &mark)?),
            snapshot: Box::new(File::from_std(file)),
        }))
    }

    /// Waits while the tables are frozen for another snapshot.
    fn freeze_soon(&self) -> Result<Frozen> {
        loop {
            if let Some(frozen) = self.freeze()? {
                return Ok(frozen);
            }
            std::thread::sleep(FREEZE_INTERVAL);
        }
    }

    fn freeze(&self) -> Result<Option<Frozen>> {
        let mark = encode("an applied mark", &self.mark)?;
        self.state.read(|db| self.store.freeze(db, &mark))
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(
        &mut self,
    ) -> std::result::Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.mark.last_applied, self.mark.membership.clone()))
    }

    async fn apply<I>(
        &mut self,
        entries: I,
    ) -> std::result::Result<Vec<ProposalResult>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let Some(last) = entries.last() {
            let durable = self.log.reaches(last.log_id.index).await;
            durable.map_err(|error| StorageIOError::write_logs(AnyError::error(&error)))?;
            // Before a session is answered because of it.
            self.facts.committed(last.log_id.index);
        }
        let applied = self.apply_entries(entries).await;
        applied.map_err(|error| failed(ErrorSubject::StateMachine, ErrorVerb::Write, &error))
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            frozen: Some(aside(|| self.freeze())),
            snapshots: self.snapshots.clone(),
            meta: snapshot_meta(&self.mark),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> std::result::Result<Box<File>, StorageError> {
        let created = self.snapshots.receive();
        let file = created
            .map_err(|error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Write, &error))?;
        Ok(Box::new(File::from_std(file)))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<File>,
    ) -> std::result::Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        let file = snapshot.into_std().await;
        aside(|| self.install(meta, file))
            .map_err(|error| failed(subject, ErrorVerb::Write, &error))?;
        tracing::info!(index = applied_index(&self.mark), "snapshot installed");
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> std::result::Result<Option<Snapshot>, StorageError> {
        aside(|| self.export())
            .map_err(|error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))
    }
}

/// Copies the registry, as it was when the builder was made, into a file.
pub struct SnapshotBuilder {
    /// Whether the tables could be frozen; `None` once they were copied.
    frozen: Option<Result<Option<Frozen>>>,
    snapshots: SnapshotFiles,
    meta: SnapshotMeta,
}

impl SnapshotBuilder {
    /// Writes the file. Returns what openraft is told: the position of the new snapshot or, if the
    /// disk is full, none. The log is then kept for longer.
    fn write(
        frozen: Result<Option<Frozen>>,
        snapshots: &SnapshotFiles,
        meta: SnapshotMeta,
    ) -> Result<SnapshotMeta> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let Some(frozen) = frozen? else {
            return Ok(SnapshotMeta::default());
        };
        match frozen.write_to(snapshots, index) {
            Ok(bytes) => {
                tracing::info!(
                    index,
                    bytes,
                    "snapshot taken: older log entries can be purged"
                );
                Ok(meta)
            }
            Err(error) if error.is_disk_full() => {
                tracing::warn!(%error, "no snapshot: the disk is full; retrying");
                Ok(SnapshotMeta::default())
            }
            Err(error) => Err(error),
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    /// openraft uses only the meta of what a build returns, so no data is opened.
    async fn build_snapshot(&mut self) -> std::result::Result<Snapshot, StorageError> {
        let (snapshots, meta) = (self.snapshots.clone(), self.meta.clone());
        let frozen = self.frozen.take().unwrap_or(Ok(None));
        let built = tokio::task::spawn_blocking(move || Self::write(frozen, &snapshots, meta));
        let subject = ErrorSubject::Snapshot(Some(self.meta.signature()));
        let built = built.await.map_err(|error| {
            StorageIOError::new(subject.clone(), ErrorVerb::Write, AnyError::new(&error))
        })?;
        let meta = built.map_err(|error| failed(subject, ErrorVerb::Write, &error))?;
        let nothing = File::open("/dev/null").await;
        let nothing =
            nothing.map_err(|error| StorageIOError::read_snapshot(None, AnyError::new(&error)))?;
        Ok(Snapshot {
            meta,
            snapshot: Box::new(nothing),
        })
    }
}

/// Work that takes long: other tasks of this thread go on elsewhere, if there is another thread.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

fn applied_index(mark: &AppliedMark) -> u64 {
    mark.last_applied.map_or(0, |id| id.index)
}

fn snapshot_meta(mark: &AppliedMark) -> SnapshotMeta {
    let snapshot_id = mark.last_applied.map_or_else(String::new, |id| {
        format!(
            "{}-{}-{}",
            id.leader_id.term, id.leader_id.node_id, id.index
        )
    });
    SnapshotMeta {
        last_log_id: mark.last_applied,
        last_membership: mark.membership.clone(),
        snapshot_id,
    }
}

fn failed(subject: ErrorSubject<u64>, verb: ErrorVerb, error: &Error) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::error(error)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use raftlookupd_storage::event::{Event, MemberBatch, Refusal};
    use raftlookupd_storage::registration::{PeerInfo, ProducerId, UnixMillis};
    use raftlookupd_storage::registration_db::Note;
    use raftlookupd_storage::store::Store;

    use crate::cluster::identity::IdentityFile;
    use crate::config::Forming;
    use crate::owner::{Owner, Room};
    use crate::peer::handshake::Me;
    use crate::types::LeaderId;

    /// Notes up to where the log is known to be committed when it is told of its batches.
    struct Watcher {
        facts: Arc<LogFacts>,
        told: Vec<u64>,
    }

    impl Owner for Watcher {
        fn loaded(&mut self, _: MemberId, _: u64, _: &RegistrationDb) {}
        fn replaced(&mut self, _: MemberId, _: u64, _: &RegistrationDb) {}
        fn has_more(&self) -> bool {
            false
        }
        fn propose(
            &mut self,
            _: u64,
            _: u64,
            _: UnixMillis,
            _: Room,
            _: &RegistrationDb,
        ) -> Vec<Event> {
            Vec::new()
        }
        fn committed(&mut self, _: u64, _: u64, _: &[(u32, Refusal)]) {}
        fn applied(&mut self, _: Vec<Note>, _: &RegistrationDb) -> bool {
            self.told.push(self.facts.committed_index());
            false
        }
    }
    /// A session is answered while its entry is being applied; a read that begins then, anywhere,
    /// has to see the entry.
    #[tokio::test]
    async fn an_entry_counts_as_committed_before_its_sessions_are_answered() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let log = LogStore::new(store.log()).unwrap();
        let mut state_machine = StateMachine::load(&store, &log).unwrap();
        let (file, identity) = IdentityFile::open(folder.path(), "a", &Forming::Alone).unwrap();
        let incarnation = identity.incarnation;
        let watcher = Arc::new(Mutex::new(Watcher {
            facts: log.facts(),
            told: Vec::new(),
        }));
        let owner = SharedOwner::new(watcher.clone(), Arc::default());
        let me = Arc::new(Me::new("a", 1).unwrap());
        state_machine.serve(1, owner, Incarnation::of(file, identity, me));
        let batch = MemberBatch {
            member: 1,
            incarnation,
            sequence: 1,
            at: 1,
            events: vec![Event::Attach {
                producer: ProducerId {
                    broadcast_address: "h1".into(),
                    tcp_port: 4150,
                },
                remote_address: "10.0.0.1:50000".into(),
                info: PeerInfo::default(),
                at: 1,
            }],
        };
        let proposal = Proposal {
            batches: vec![batch],
            own: Vec::new(),
        };
        let entry = Entry {
            log_id: LogId::new(LeaderId::new(1, 1), 7),
            payload: EntryPayload::Normal(proposal),
        };
        state_machine.apply([entry]).await.unwrap();
        let told = &watcher.lock().unwrap().told;
        assert!(
            !told.is_empty() && told.iter().all(|index| *index == 7),
            "{told:?}"
        );
    }
}
