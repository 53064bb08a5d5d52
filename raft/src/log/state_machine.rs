//! Implements openraft's state machine trait over storage's [`RegistrationStore`].
//!
//! The rows on disk *are* the snapshot: building one means syncing them, so that the log up to
//! there may be purged. The bytes of a snapshot are made when a peer needs them.

use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder,
    StorageIOError,
};
use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::event::{BatchResult, Proposal};
use raftlookupd_storage::registration::MemberId;
use raftlookupd_storage::registration_db::{Applying, Change, RegistrationDb, Step};
use raftlookupd_storage::registration_store::RegistrationStore;
use raftlookupd_storage::{Error, Result, snapshot};
use serde::{Deserialize, Serialize};
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
    log: DurableIndex,
    facts: Arc<LogFacts>,
    mark: AppliedMark,
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
    /// [`Error::Corrupt`] or [`Error::Encoding`] if rows are missing or damaged.
    pub fn load(store: RegistrationStore, log: &LogStore) -> Result<Self> {
        let (db, mark) = match store.load()? {
            Some(loaded) => (loaded.db, decode("an applied mark", &loaded.mark)?),
            None => (RegistrationDb::new(), AppliedMark::default()),
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
            store,
            log: log.durable_index(),
            facts: log.facts(),
            mark,
        })
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

    fn install(&mut self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<()> {
        let decoded = snapshot::decode(bytes)?;
        let mark: AppliedMark = decode("an applied mark", &decoded.mark)?;
        if mark.last_applied != meta.last_log_id {
            return Err(Error::Encoding {
                what: "a snapshot",
                reason: "it holds another position than it was announced with".into(),
            });
        }
        self.store.install(&decoded.db, &decoded.mark)?;
        self.store
            .set_snapshot_mark(&encode("a snapshot mark", meta)?)?;
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

    fn export(&self) -> Result<Option<Snapshot>> {
        if self.store.snapshot_mark()?.is_none() {
            return Ok(None);
        }
        let mark = encode("an applied mark", &self.mark)?;
        // openraft may have the log purged up to the position that is returned.
        self.state.read(|db| self.store.write(db))?;
        let bytes = self.state.read(|db| snapshot::encode(db, &mark))?;
        Ok(Some(Snapshot {
            meta: snapshot_meta(&self.mark),
            snapshot: Box::new(Cursor::new(bytes)),
        }))
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
            written: Some(self.state.read(|db| self.store.write(db))),
            store: self.store.clone(),
            meta: snapshot_meta(&self.mark),
        }
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> std::result::Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> std::result::Result<(), StorageError> {
        let subject = ErrorSubject::Snapshot(Some(meta.signature()));
        let bytes = snapshot.into_inner();
        aside(|| self.install(meta, &bytes))
            .map_err(|error| failed(subject, ErrorVerb::Write, &error))?;
        tracing::info!(
            index = applied_index(&self.mark),
            bytes = bytes.len(),
            "snapshot installed"
        );
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> std::result::Result<Option<Snapshot>, StorageError> {
        aside(|| self.export())
            .map_err(|error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))
    }
}

/// Makes the registry durable up to where it was when the builder was made.
pub struct SnapshotBuilder {
    /// Whether the registry could be written.
    written: Option<Result<()>>,
    store: RegistrationStore,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    /// openraft uses only the meta of what a build returns, so the data stays empty here.
    async fn build_snapshot(&mut self) -> std::result::Result<Snapshot, StorageError> {
        let (store, meta) = (self.store.clone(), self.meta.clone());
        let written = self.written.take().unwrap_or(Ok(()));
        // The mark is durable when this returns, and so is all that was written before it.
        let built = tokio::task::spawn_blocking(move || {
            written?;
            store.set_snapshot_mark(&encode("a snapshot mark", &meta)?)
        });
        let subject = ErrorSubject::Snapshot(Some(self.meta.signature()));
        match built.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(subject, ErrorVerb::Write, &error)),
            Err(error) => {
                let error = AnyError::new(&error);
                return Err(StorageIOError::new(subject, ErrorVerb::Write, error).into());
            }
        }
        let index = self.meta.last_log_id.map_or(0, |id| id.index);
        tracing::info!(index, "snapshot taken: older log entries can be purged");
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::default(),
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
        let mut state_machine = StateMachine::load(store.registrations(), &log).unwrap();
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
