//! Keeps a member's identity in a small file of its own beside the store.

use std::collections::BTreeMap;
use std::path::Path;

use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::record_file::RecordFile;
use raftlookupd_storage::registration::MemberId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::Forming;
use crate::error::{Error, Result};
use crate::peer::handshake::Place;
use crate::types::PeerNode;

const FILE: &str = "identity";

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
    current: watch::Sender<u64>,
}

impl Incarnation {
    /// The incarnation that this start has begun.
    pub(crate) fn of(file: IdentityFile, identity: Identity) -> Self {
        let current = watch::Sender::new(identity.incarnation);
        Incarnation {
            file,
            identity,
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
        Ok(self.identity.incarnation)
    }

    /// From now on batches are proposed as the current incarnation.
    pub(crate) fn announce(&self) {
        self.current.send_replace(self.identity.incarnation);
    }
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

    /// Durable when it returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save(&self, identity: &Identity) -> raftlookupd_storage::Result<()> {
        self.file.save(&encode("an identity", identity)?)
    }
}
