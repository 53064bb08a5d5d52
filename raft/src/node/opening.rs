//! Opens the data path, listens for peers, and finds this member's place in a cluster.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use raftlookupd_storage::registration::UnixMillis;
use raftlookupd_storage::store::{FORMAT_FILE, Store};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::forming;
use crate::cluster::identity::{self, Identity, IdentityFile, OwnMembership, begin_start};
use crate::config::{Config, Forming};
use crate::error::{Error, Result};
use crate::node::peer_service::PeerService;
use crate::node::runtime::blocking;
use crate::peer::client::PeerClient;
use crate::peer::connection::{Connector, tcp};
use crate::peer::handshake::Me;
use crate::peer::message::Hello;
use crate::peer::server::Server;
use crate::peer::speakers::Speakers;
use crate::types::PeerNode;
use crate::write::space::DiskSpace;

/// One part in so many of the connections to the peer port is for those that are not known as
/// members, and at least [`FEWEST_GUESTS`].
const GUESTS: usize = 4;

/// Members begin as guests, too, and ask each other who they are while a cluster forms.
const FEWEST_GUESTS: usize = 8;

/// A member that has read its data path, and may not belong to a cluster yet.
pub(crate) struct Opened {
    pub(crate) base: Base,
    pub(crate) file: IdentityFile,
    pub(crate) identity: Identity,
}

/// What a member has from its start to its end.
pub(crate) struct Base {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) space: Arc<DiskSpace>,
    pub(crate) hello: Hello,
    pub(crate) me: Arc<Me>,
    pub(crate) peers: PeerClient,
    pub(crate) speakers: Arc<Speakers>,
    pub(crate) server: Arc<Server<PeerService>>,
    pub(crate) tasks: JoinSet<()>,
    /// Ends the tasks, and the connections of peers.
    pub(crate) stop: CancellationToken,
}

/// What remains of the configuration.
pub(crate) struct Settings {
    pub(crate) raft: Arc<openraft::Config>,
    pub(crate) data_path: PathBuf,
    pub(crate) address: String,
    pub(crate) forming: Forming,
    /// Whether this member listens for others.
    pub(crate) reachable: bool,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) election_timeout: Range<Duration>,
    pub(crate) member_timeout: Duration,
    pub(crate) wall_clock: UnixMillis,
    pub(crate) snapshot_count: u64,
}

impl Opened {
    /// Opens the data path. From here on peers can ask who this is.
    ///
    /// # Errors
    /// [`Error::Storage`] if the data path cannot be used, [`Error::Membership`] if it belongs to
    /// another member.
    pub(crate) async fn open(config: Config) -> Result<Opened> {
        let raft = config.openraft()?;
        let data_path = config.data_path.clone();
        check_complete(&data_path)?;
        let store = blocking(move || Ok(Store::open(&data_path)?)).await?;
        let space = DiskSpace::new(config.data_path.clone(), config.min_free_bytes);
        let (file, identity) =
            IdentityFile::open(&config.data_path, &config.name, &config.forming)?;
        let lineage = begin_start(&config.data_path, &store.log())?;
        let me = Arc::new(Me::remembering(&identity.name, identity.instance, lineage)?);
        me.raise_incarnation(identity.incarnation);
        if let Some(own) = &identity.membership {
            me.take_place(own.place());
        }
        let hello = Hello {
            name: identity.name.clone(),
            instance: identity.instance,
            initial: config.forming.initial(),
        };
        let connector: Arc<Connector> = Arc::new(tcp);
        let listed = hello.initial.iter().cloned().collect();
        let speakers = Speakers::load(me.clone(), connector.clone(), listed, &config.data_path)?;
        let speakers = Arc::new(speakers);
        let service = PeerService::new(me.clone(), hello.clone(), speakers.clone());
        let server = Server::new(service);
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let reachable = config.peer_listener.is_some();
        if let Some(listener) = config.peer_listener {
            let listener = into_tokio(listener)?;
            let guests = (config.most_peer_connections / GUESTS).max(FEWEST_GUESTS);
            tasks.spawn(server.clone().serve(listener, guests, stop.clone()));
        }
        let base = Base {
            settings: Settings {
                raft,
                data_path: config.data_path,
                address: config.peer_broadcast_address,
                reachable,
                forming: config.forming,
                heartbeat_interval: config.heartbeat_interval,
                election_timeout: config.election_timeout,
                member_timeout: config.member_timeout,
                wall_clock: config.wall_clock,
                snapshot_count: config.snapshot_count,
            },
            store,
            space: Arc::new(space),
            hello,
            peers: PeerClient::new(me.clone(), connector, speakers.clone()),
            me,
            speakers,
            server,
            tasks,
            stop,
        };
        Ok(Opened {
            base,
            file,
            identity,
        })
    }

    /// Finds this member's place: the recorded one, or a new one in a cluster that it forms or
    /// joins. Waits for the other members for as long as it takes.
    ///
    /// # Errors
    /// [`Error::Storage`] if the data path is incomplete, [`Error::Membership`] if the cluster
    /// cannot be formed as configured.
    pub(crate) async fn join(&mut self) -> Result<OwnMembership> {
        if let Some(own) = &self.identity.membership {
            return Ok(own.clone());
        }
        let Base {
            settings,
            store,
            hello,
            peers,
            ..
        } = &self.base;
        if store.log().vote()?.is_some() {
            return Err(Error::Storage(raftlookupd_storage::Error::Corrupt {
                path: settings.data_path.clone(),
                what: "it has a log, but its identity is missing".into(),
            }));
        }
        let address = &settings.address;
        let own = match &settings.forming {
            Forming::Alone => forming::alone(PeerNode {
                name: hello.name.clone(),
                address: address.clone(),
                instance: hello.instance,
            }),
            Forming::Initial(_) => forming::with_others(hello, address, peers).await?,
        };
        self.identity.membership = Some(own.clone());
        self.file.save(&self.identity)?;
        self.base.me.take_place(own.place());
        Ok(own)
    }
}

/// Refuses a data path that has lost its log and its votes, but still says who it is: the member would
/// vote again in terms in which it has voted.
fn check_complete(data_path: &Path) -> Result<()> {
    let there = |name: &str| data_path.join(name).exists();
    if !there(identity::FILE) || there(FORMAT_FILE) {
        return Ok(());
    }
    Err(Error::Storage(raftlookupd_storage::Error::Corrupt {
        path: data_path.to_path_buf(),
        what: "it has the identity of a member, but neither its log nor its votes".into(),
    }))
}

fn into_tokio(listener: std::net::TcpListener) -> Result<TcpListener> {
    let unusable = |error: std::io::Error| Error::Fatal(format!("peer listener: {error}"));
    listener.set_nonblocking(true).map_err(unusable)?;
    TcpListener::from_std(listener).map_err(unusable)
}
