//! Reads a data path that no process uses, and makes a new cluster of it when too many members are lost
//! for a quorum.
//!
//! The new cluster has another id, so that what is left of the old one can never take part in it again.
//! It has one member, with its node id and everything that its log holds: what was acknowledged is
//! there if this member had it. The other members are added
//! again, with empty data paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use openraft::{EntryPayload, Membership, StoredMembership as Stored};
use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::log_table::StoredVote;
use raftlookupd_storage::registration::MemberId;
use raftlookupd_storage::registration_db::{RegistrationDb, Totals};
use raftlookupd_storage::store::{FORMAT_FILE, Store};
use tokio::sync::oneshot;

use crate::cluster::identity::{self, Identity, IdentityFile};
use crate::error::{Error, Result};
use crate::log::log_store::LogStore;
use crate::log::state_machine::StateMachine;
use crate::peer::speakers;
use crate::types::{Entry, LeaderId, LogId, PeerNode, StoredMembership};

/// What a data path holds.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The data path.
    pub data_path: PathBuf,
    /// The member's name.
    pub name: String,
    /// The cluster, 32 hexadecimal digits, and the member's node id there; `None` if it has not become
    /// part of one.
    pub place: Option<(String, MemberId)>,
    /// Name, address and whether it votes, by node id, as far as this member knew.
    pub members: BTreeMap<MemberId, (String, String, bool)>,
    /// Term and index of the last log entry.
    pub last: (u64, u64),
    /// The last term in which the member has voted.
    pub voted_in: u64,
    /// Up to where the registry has applied the log.
    pub applied: u64,
    /// The size of the registry there.
    pub totals: Totals,
    /// When a file was last written.
    pub written: Option<SystemTime>,
}

/// A data path that this process has opened exclusively.
struct Offline {
    store: Store,
    file: IdentityFile,
    identity: Identity,
    membership: StoredMembership,
    last: Option<LogId>,
    contents: Contents,
}

/// Reads what a data path holds.
///
/// # Errors
/// [`Error::Membership`] if it holds no member, [`Error::Storage`] if a process uses it or it is
/// damaged.
pub fn inspect(data_path: &Path) -> Result<Contents> {
    let offline = Offline::open(data_path)?;
    offline.store.close()?;
    Ok(offline.contents)
}

/// Makes the member the only one of a new cluster. If that is interrupted it can be repeated.
///
/// # Errors
/// Those of [`inspect`], and [`Error::Membership`] if the member was never part of a cluster.
pub async fn force_new_cluster(data_path: &Path) -> Result<Contents> {
    let mut offline = Offline::open(data_path)?;
    let Some(own) = &mut offline.identity.membership else {
        return Err(nothing(data_path, "its member was never part of a cluster"));
    };
    let id = own.id;
    let known = offline.membership.membership().get_node(&id);
    let node = known.cloned().unwrap_or_else(|| PeerNode {
        name: offline.identity.name.clone(),
        address: String::new(),
        instance: offline.identity.instance,
    });
    // The old cluster's name goes first: from here on this member cannot vote there.
    own.cluster = rand::random();
    own.founding = None;
    offline.file.save(&offline.identity)?;
    speakers::forget_all(data_path)?;
    let log = offline.store.log();
    let (last_term, next) = offline.last.map_or((0, 0), |last| {
        (last.leader_id.term, last.index.saturating_add(1))
    });
    let term = last_term.max(offline.contents.voted_in).saturating_add(1);
    log.save_vote(StoredVote {
        term,
        node_id: id,
        committed: false,
    })?;
    let alone = Membership::new(vec![[id].into()], BTreeMap::from([(id, node)]));
    let entry = Entry {
        log_id: LogId::new(LeaderId::new(term, id), next),
        payload: EntryPayload::Membership(alone),
    };
    let (done, synced) = oneshot::channel();
    let bytes = encode("a log entry", &entry)?;
    log.append(vec![(next, bytes)], move |outcome| {
        // Only this function waits.
        let _ = done.send(outcome);
    })?;
    let synced = synced.await.map_err(|error| error.to_string());
    synced
        .and_then(|outcome| outcome.map_err(|error| error.to_string()))
        .map_err(Error::StorageFailed)?;
    // The data path is locked for as long as a handle is left.
    drop(log);
    offline.store.close()?;
    inspect(data_path)
}

impl Offline {
    fn open(data_path: &Path) -> Result<Offline> {
        let there = |name: &str| data_path.join(name).exists();
        if !there(identity::FILE) || !there(FORMAT_FILE) {
            return Err(nothing(data_path, "it holds no member, or not all of it"));
        }
        // Opening it writes.
        let written = newest(data_path);
        let store = Store::open(data_path)?;
        let (file, identity) = IdentityFile::read(data_path)?;
        let log = LogStore::new(store.log())?;
        let machine = StateMachine::load(&store, &log)?;
        let (membership, last) = membership_and_end(&store, machine.membership())?;
        let last = last.or(machine.state().applied_log_id());
        let voters: Vec<MemberId> = membership.voter_ids().collect();
        let members = membership.nodes().map(|(id, node)| {
            let votes = voters.contains(id);
            (*id, (node.name.clone(), node.address.clone(), votes))
        });
        let place = identity.membership.as_ref();
        let applied = machine.state().applied();
        let totals = machine.state().read(RegistrationDb::totals);
        let contents = Contents {
            data_path: data_path.to_path_buf(),
            name: identity.name.clone(),
            place: place.map(|own| (format!("{:032x}", own.cluster), own.id)),
            members: members.collect(),
            last: last.map_or((0, 0), |last| (last.leader_id.term, last.index)),
            voted_in: store.log().vote()?.map_or(0, |vote| vote.term),
            applied,
            totals,
            written,
        };
        Ok(Offline {
            store,
            file,
            identity,
            membership,
            last,
            contents,
        })
    }
}

/// The last membership in the log, and its last entry; `applied` is the membership where the log begins.
fn membership_and_end(
    store: &Store,
    applied: StoredMembership,
) -> Result<(StoredMembership, Option<LogId>)> {
    const AT_ONCE: usize = 8 << 20;
    let log = store.log();
    let purged: Option<LogId> = match log.purge_point()? {
        Some((_, point)) => Some(decode("a purge point", &point)?),
        None => None,
    };
    let (mut membership, mut last) = (applied, purged);
    let mut next = purged.map_or(0, |purged| purged.index.saturating_add(1));
    loop {
        let entries = log.read(next, u64::MAX, AT_ONCE)?;
        if entries.is_empty() {
            return Ok((membership, last));
        }
        for (index, bytes) in entries {
            let entry: Entry = decode("a log entry", &bytes)?;
            last = Some(entry.log_id);
            next = index.saturating_add(1);
            if let EntryPayload::Membership(changed) = entry.payload {
                membership = Stored::new(Some(entry.log_id), changed);
            }
        }
    }
}

/// When the newest file below a folder was written.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let times = entries.filter_map(|entry| {
        let kind = entry.metadata().ok()?;
        match kind.is_dir() {
            true => newest(&entry.path()),
            false => kind.modified().ok(),
        }
    });
    times.max()
}

fn nothing(data_path: &Path, why: &str) -> Error {
    Error::Membership(format!(
        "{} cannot be recovered: {why}. Give the --data-path of a member that was stopped",
        data_path.display()
    ))
}
