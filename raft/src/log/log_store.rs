//! Implements openraft's log trait over storage's [`LogTable`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, LeaderId, Membership, OptionalSend, RaftLogId,
    RaftLogReader, StorageIOError,
};
use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::log_table::{LogTable, StoredVote};
use raftlookupd_storage::registration::MemberId;
use raftlookupd_storage::snapshots::SnapshotFiles;

use crate::error::Error;
use crate::log::durable_index::DurableIndex;
use crate::log::log_facts::LogFacts;
use crate::log::registry_state::RegistryState;
use crate::types::{Entry, LogId, PeerNode, StorageError, TypeConfig, Vote};

/// How much one AppendEntries message carries, in bytes, unless a single entry is longer. A slow
/// link must carry it, and a slow disk take it, in a fraction of `APPEND_INTERVALS`.
const APPEND_BYTES: usize = 512 * 1024;

/// The log of one member; clones share it.
#[derive(Clone)]
pub struct LogStore {
    table: LogTable,
    facts: Arc<LogFacts>,
    durable: DurableIndex,
    /// Must have what is purged; `None` in openraft's test suite, which purges what was never applied.
    behind: Option<Behind>,
}

/// What the log is purged behind.
#[derive(Clone)]
struct Behind {
    registry: Arc<RegistryState>,
    snapshots: SnapshotFiles,
}

impl LogStore {
    /// The log in this table.
    ///
    /// # Errors
    /// As [`LogTable::purge_point`].
    pub fn new(table: LogTable) -> raftlookupd_storage::Result<Self> {
        let purged = table.purge_point()?.map(|(index, _)| index);
        // Opening the log has synced what can be read.
        let end = table.last_index().max(purged);
        Ok(LogStore {
            table,
            facts: Arc::default(),
            durable: DurableIndex::new(end.map_or(0, |end| end.saturating_add(1))),
            behind: None,
        })
    }

    /// The same log, purged only up to what this registry has applied and these files contain:
    /// openraft asks for the purge while the snapshot that replaces the entries is still being
    /// installed.
    pub(crate) fn purged_behind(
        self,
        registry: Arc<RegistryState>,
        snapshots: SnapshotFiles,
    ) -> Self {
        LogStore {
            behind: Some(Behind {
                registry,
                snapshots,
            }),
            ..self
        }
    }

    pub(crate) fn facts(&self) -> Arc<LogFacts> {
        self.facts.clone()
    }

    pub(crate) fn durable_index(&self) -> DurableIndex {
        self.durable.clone()
    }

    /// Writes the first entry of a new cluster, its members, if there is nothing yet. Whether it was
    /// written; it is durable then. It is the same entry each time, so it may be repeated after a loss
    /// of power, whatever has become of it elsewhere.
    ///
    /// # Errors
    /// [`Error::Storage`] or [`Error::StorageFailed`] if it cannot be written.
    pub(crate) async fn found(
        &self,
        members: &BTreeMap<MemberId, PeerNode>,
    ) -> crate::error::Result<bool> {
        if self.table.last_index().is_some() || self.table.purge_point()?.is_some() {
            return Ok(false);
        }
        let voters = members.keys().copied().collect();
        let entry = Entry {
            log_id: LogId::default(),
            payload: EntryPayload::Membership(Membership::new(vec![voters], members.clone())),
        };
        let durable = self.durable.written(0);
        let bytes = encode("a log entry", &entry)?;
        self.table.append(vec![(0, bytes)], durable)?;
        let synced = self.durable.reaches(0).await;
        synced.map_err(|error| Error::StorageFailed(error.to_string()))?;
        Ok(true)
    }

    fn entries(
        &self,
        start: u64,
        end: u64,
        bytes: usize,
    ) -> raftlookupd_storage::Result<Vec<Entry>> {
        let stored = self.table.read(start, end, bytes)?;
        let entries = stored.iter().map(|(_, bytes)| decode("a log entry", bytes));
        entries.collect()
    }

    /// Which entry has this index; `None` if none has, or it cannot be read.
    pub(crate) fn log_id_at(&self, index: u64) -> Option<LogId> {
        let entries = self.entries(index, index.saturating_add(1), usize::MAX);
        let entries = entries.ok()?;
        entries.first().map(|entry| entry.log_id)
    }

    /// Skips entries that are purged and truncates those to be replaced. openraft asks for neither;
    /// its test suite does.
    fn make_room(
        &self,
        mut entries: Vec<(u64, Vec<u8>)>,
    ) -> raftlookupd_storage::Result<Vec<(u64, Vec<u8>)>> {
        let purged = self.table.purge_point()?.map(|(index, _)| index);
        entries.retain(|(index, _)| Some(*index) > purged);
        if let Some((first, _)) = entries.first()
            && self.table.last_index() >= Some(*first)
        {
            self.remove_from(*first)?;
        }
        Ok(entries)
    }

    fn remove_from(&self, index: u64) -> raftlookupd_storage::Result<()> {
        self.facts.truncated(index);
        self.durable.truncated(index);
        self.table.truncate(index)?;
        self.durable.all_synced();
        Ok(())
    }

    fn purge_point(&self) -> Result<Option<LogId>, raftlookupd_storage::Error> {
        let point = self.table.purge_point()?;
        point
            .map(|(_, point)| decode("a purge point", &point))
            .transpose()
    }

    fn last_log_id(&self) -> Result<Option<LogId>, raftlookupd_storage::Error> {
        let last = self.table.last()?;
        let last: Option<Entry> = last
            .map(|(_, bytes)| decode("a log entry", &bytes))
            .transpose()?;
        Ok(last.map(|entry| *entry.get_log_id()))
    }
}

impl Behind {
    /// Waits until the registry has applied this entry, and checks that it is in a file.
    async fn has(&self, index: u64) -> Result<(), String> {
        if !self.registry.wait_applied(index).await {
            return Err("the registry has ended".into());
        }
        match self.snapshots.contain(index) {
            true => Ok(()),
            false => Err(format!(
                "no snapshot contains entry {index}, which is to be purged"
            )),
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start, end, usize::MAX)
            .map_err(|error| failed(ErrorVerb::Read, error))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.entries(start, end, APPEND_BYTES)
            .map_err(|error| failed(ErrorVerb::Read, error))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let read = |error| failed(ErrorVerb::Read, error);
        let last_purged_log_id = self.purge_point().map_err(read)?;
        let last_log_id = self.last_log_id().map_err(read)?;
        Ok(LogState {
            last_purged_log_id,
            last_log_id: last_log_id.or(last_purged_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let stored = StoredVote {
            term: vote.leader_id.term,
            node_id: vote.leader_id.node_id,
            committed: vote.committed,
        };
        self.facts.set_vote(None);
        let table = self.table.clone();
        let saved = tokio::task::spawn_blocking(move || table.save_vote(stored)).await;
        let error: openraft::AnyError = match saved {
            Ok(Ok(())) => {
                self.facts.set_vote(Some(*vote));
                return Ok(());
            }
            Ok(Err(error)) => openraft::AnyError::error(&error),
            Err(error) => openraft::AnyError::new(&error),
        };
        Err(StorageIOError::write_vote(error).into())
    }

    /// Called once, at the start. The vote never counts as committed: the leader it names must be
    /// heard again. If that was this member it must be elected again, since it may have lost entries
    /// that its followers have.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = self.table.vote();
        let vote =
            vote.map_err(|error| StorageIOError::read_vote(openraft::AnyError::error(&error)))?;
        let vote = vote.map(|vote| Vote {
            leader_id: LeaderId::new(vote.term, vote.node_id),
            committed: false,
        });
        self.facts.set_vote(vote);
        Ok(vote)
    }

    /// Not synced: if it is lost, a start applies less before it hears from the leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let bytes = encode("a commit point", &committed);
        bytes
            .and_then(|bytes| self.table.save_committed(&bytes))
            .map_err(|error| failed(ErrorVerb::Write, error))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let read = |error| failed(ErrorVerb::Read, error);
        let Some(bytes) = self.table.committed().map_err(read)? else {
            return Ok(None);
        };
        let committed: Option<LogId> = decode("a commit point", &bytes).map_err(read)?;
        // Entries may have been truncated or lost since: never claim more than the log holds.
        let last = self
            .last_log_id()
            .map_err(read)?
            .or(self.purge_point().map_err(read)?);
        Ok(committed.min(last))
    }

    /// Does not wait for the disk: see `durable_index`.
    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let facts = self.facts.clone();
        let encoded = entries.into_iter().map(|entry| {
            if matches!(entry.payload, EntryPayload::Membership(_)) {
                facts.appended_membership(entry.log_id.index);
            }
            Ok((entry.log_id.index, encode("a log entry", &entry)?))
        });
        encoded
            .collect::<Result<Vec<_>, _>>()
            .and_then(|entries| {
                let entries = self.make_room(entries)?;
                let Some((last, _)) = entries.last() else {
                    return Ok(());
                };
                let durable = self.durable.written(*last);
                self.table.append(entries, durable)
            })
            .map_err(|error| failed(ErrorVerb::Write, error))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.remove_from(log_id.index)
            .map_err(|error| failed(ErrorVerb::Delete, error))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        if let Some(behind) = &self.behind {
            behind.has(log_id.index).await.map_err(|reason| {
                let reason = openraft::AnyError::error(reason);
                StorageIOError::new(ErrorSubject::Logs, ErrorVerb::Delete, reason)
            })?;
        }
        encode("a purge point", &log_id)
            .and_then(|point| self.table.purge(log_id.index, &point))
            .map_err(|error| failed(ErrorVerb::Delete, error))?;
        self.durable.purged(log_id.index);
        Ok(())
    }
}

fn failed(verb: ErrorVerb, error: raftlookupd_storage::Error) -> StorageError {
    StorageIOError::new(ErrorSubject::Logs, verb, openraft::AnyError::error(&error)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::time::Duration;

    use crate::log::registry_state::AppliedPoint;
    use raftlookupd_storage::registration_db::RegistrationDb;
    use raftlookupd_storage::store::Store;
    use tokio::sync::watch;

    /// Fails if the test hangs.
    async fn in_time(test: impl Future<Output = ()>) {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), test);
        ended.await.expect("the test hangs");
    }

    #[tokio::test]
    async fn the_log_is_purged_behind_registry_and_snapshot() {
        in_time(async {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path()).unwrap();
            let (applied, its_end) = watch::channel(AppliedPoint::default());
            let registry = RegistryState::new(RegistrationDb::new(), its_end);
            let log = LogStore::new(store.log()).unwrap();
            let snapshots = store.snapshots();
            let mut log = log.purged_behind(Arc::new(registry), snapshots.clone());
            let take_snapshot = |index| {
                let registrations = store.registrations();
                let frozen = registrations.freeze(&RegistrationDb::new(), b"mark");
                let frozen = frozen.unwrap().unwrap();
                frozen.write_to(&snapshots, index).unwrap();
            };
            take_snapshot(100);
            let id = |index| LogId::new(LeaderId::new(1, 1), index);
            let reached = |id| AppliedPoint {
                log_id: Some(id),
                state_hash: 0,
            };
            {
                let mut purge = pin!(log.purge(id(100)));
                applied.send_replace(reached(id(99)));
                let early = tokio::time::timeout(Duration::from_millis(20), purge.as_mut());
                early.await.unwrap_err();
                assert_eq!(store.log().purge_point().unwrap(), None);
                applied.send_replace(reached(id(100)));
                purge.await.unwrap();
            }
            assert_eq!(log.purge_point().unwrap(), Some(id(100)));
            // What no snapshot contains is not purged.
            applied.send_replace(reached(id(200)));
            log.purge(id(200)).await.unwrap_err();
            assert_eq!(log.purge_point().unwrap(), Some(id(100)));
            take_snapshot(200);
            // A snapshot that cannot be installed ends the state machine.
            applied.send_replace(reached(id(100)));
            drop(applied);
            log.purge(id(200)).await.unwrap_err();
            assert_eq!(log.purge_point().unwrap(), Some(id(100)));
        })
        .await;
    }
}
