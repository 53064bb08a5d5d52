//! Identifies a proposed change, so that its outcome can be followed.

use std::sync::Arc;

use raftlookupd_raft::storage::registration::ProducerId;
use raftlookupd_raft::storage::registration_db::Name;

/// A proposed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    Attached(Arc<ProducerId>),
    Detached(Arc<ProducerId>),
    Active(Arc<ProducerId>, bool),
    Claimed(Arc<ProducerId>, Name),
    Released(Arc<ProducerId>, Name),
}

impl Fact {
    pub(super) fn producer(&self) -> &Arc<ProducerId> {
        match self {
            Fact::Attached(producer)
            | Fact::Detached(producer)
            | Fact::Active(producer, _)
            | Fact::Claimed(producer, _)
            | Fact::Released(producer, _) => producer,
        }
    }
}
