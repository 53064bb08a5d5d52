//! Keeps a member's identity in a small file of its own beside the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::log_table::LogTable;
use raftlookupd_storage::record_file::RecordFile;
use raftlookupd_storage::registration::MemberId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::Forming;
use crate::error::{Error, Result};
use crate::peer::handshake::{Me, Place};
use crate::peer::lineage::{Lineage, Promises};
use crate::types::PeerNode;

/// The file that holds the identity.
pub(crate) const FILE: &str = "identity";

/// The file that holds the starts.
const STARTS: &str = "starts";

/// The identity of the member that a data path belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Drawn when the data path was first used.
    pub(crate) instance: u128,
    /// The operator's name for the member.
    pub(crate) name: String,
    /// Counts the incarnations of the member on this data path, from 1: one for each start of the
    /// process, and one for each snapshot that replaced its registry.
    pub(crate) incarnation: u64,
    /// The cluster that it belongs to, once it does.
    pub(crate) membership: Option<OwnMembership>,
}

/// A place in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnMembership {
    /// The cluster.
    pub(crate) cluster: u128,
    /// The Raft node id.
    pub(crate) id: MemberId,
    /// The first members, at the one that forms the cluster. Kept, since the process may die
    /// between writing this and the first log entry.
    pub(crate) founding: Option<BTreeMap<MemberId, PeerNode>>,
}

impl OwnMembership {
    /// As the handshake gives it.
    pub(crate) fn place(&self) -> Place {
        Place {
            cluster: self.cluster,
            id: self.id,
        }
    }
}

/// The identity on disk.
pub(crate) struct IdentityFile {
    file: RecordFile,
}

/// The incarnation of this member: one for each start of its process, and for each snapshot that
/// replaces its registry. On disk before anything is proposed as it.
pub(crate) struct Incarnation {
    file: IdentityFile,
    identity: Identity,
    me: Arc<Me>,
    current: watch::Sender<u64>,
}

impl Incarnation {
    /// The incarnation that this start has begun.
    pub(crate) fn of(file: IdentityFile, identity: Identity, me: Arc<Me>) -> Self {
        let current = watch::Sender::new(identity.incarnation);
        Incarnation {
            file,
            identity,
            me,
            current,
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.current.subscribe()
    }

    /// Begins the next one.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn next(&mut self) -> raftlookupd_storage::Result<u64> {
        self.identity.incarnation += 1;
        self.file.save(&self.identity)?;
        self.me.raise_incarnation(self.identity.incarnation);
        Ok(self.identity.incarnation)
    }

    /// From now on batches are proposed as the current incarnation.
    pub(crate) fn announce(&self) {
        self.current.send_replace(self.identity.incarnation);
    }
}

/// Notes this start, and what it has found of earlier ones. On disk when it returns, and before any
/// peer hears of it.
///
/// # Errors
/// The starts cannot be read or written.
pub(crate) fn begin_start(
    data_path: &Path,
    log: &LogTable,
) -> raftlookupd_storage::Result<Lineage> {
    let file = RecordFile::new(data_path.join(STARTS));
    let mut lineage: Lineage = match file.load()? {
        Some(bytes) => decode("the starts of a member", &bytes)?,
        None => Lineage::default(),
    };
    let purged = log.purge_point()?.map(|(index, _)| index);
    let found = Promises {
        term: log.vote()?.map_or(0, |vote| vote.term),
        next: log.last_index().max(purged).map_or(0, |last| last + 1),
    };
    lineage.begin(rand::random(), found);
    file.save(&encode("the starts of a member", &lineage)?)?;
    Ok(lineage)
}

/// Whether a data path is empty, or belongs to a member that formed a cluster of one.
///
/// # Errors
/// [`Error::Storage`] if it cannot be read.
pub fn formed_alone(data_path: &Path) -> Result<bool> {
    let Some(bytes) = RecordFile::new(data_path.join(FILE)).load()? else {
        return Ok(true);
    };
    let identity: Identity = decode("an identity", &bytes)?;
    let membership = identity.membership;
    Ok(membership.is_none_or(|own| own.founding.is_some_and(|first| first.len() == 1)))
}

impl IdentityFile {
    /// Reads the identity, or draws one for an empty data path, and counts this start.
    ///
    /// # Errors
    /// [`Error::Storage`], and [`Error::Membership`] if the data belongs to another name. A
    /// cluster of one keeps its name: the default is the host's, and that may change.
    pub(crate) fn open(
        data_path: &Path,
        name: &str,
        forming: &Forming,
    ) -> Result<(Self, Identity)> {
        let file = RecordFile::new(data_path.join(FILE));
        let mut identity = match file.load()? {
            Some(bytes) => decode("an identity", &bytes)?,
            None => Identity {
                instance: rand::random(),
                name: name.to_string(),
                incarnation: 0,
                membership: None,
            },
        };
        if identity.name != name && *forming != Forming::Alone {
            return Err(Error::Membership(format!(
                "{} holds the data of member {:?}, but this member is called {name:?}: \
                 give --name {} or another --data-path",
                data_path.display(),
                identity.name,
                identity.name,
            )));
        }
        identity.incarnation += 1;
        let opened = IdentityFile { file };
        opened.save(&identity)?;
        Ok((opened, identity))
    }

    /// Reads the identity of a member that does not run.
    ///
    /// # Errors
    /// [`Error::Storage`] if there is none, or it cannot be read.
    pub(crate) fn read(data_path: &Path) -> Result<(Self, Identity)> {
        let file = RecordFile::new(data_path.join(FILE));
        let bytes = file.load()?.unwrap_or_default();
        let identity = decode("an identity", &bytes)?;
        Ok((IdentityFile { file }, identity))
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save(&self, identity: &Identity) -> raftlookupd_storage::Result<()> {
        self.file.save(&encode("an identity", identity)?)
    }
}
