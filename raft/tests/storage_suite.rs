//! openraft's own suite for storage implementations, over the real store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

use openraft::storage::RaftLogStorage;
use openraft::testing::{StoreBuilder, Suite};
use raftlookupd_raft::log::log_store::LogStore;
use raftlookupd_raft::log::state_machine::StateMachine;
use raftlookupd_raft::storage::store::Store;
use raftlookupd_raft::types::{StorageError, TypeConfig, Vote};
use tempfile::TempDir;

struct RealStore;

/// Keeps the data path until the test is over.
type Guard = (Store, TempDir);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for RealStore {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let log = LogStore::new(store.log()).unwrap();
        let state_machine = StateMachine::load(&store, &log).unwrap();
        Ok(((store, folder), log, state_machine))
    }
}

#[test]
fn openrafts_suite_passes() {
    Suite::test_all(RealStore).unwrap();
}

/// It may have lost entries that others have of it, so it must not go on in the same term.
#[tokio::test]
async fn who_led_before_a_restart_has_to_be_elected_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut log = LogStore::new(store.log()).unwrap();
    log.save_vote(&Vote::new_committed(3, 1)).await.unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
}
