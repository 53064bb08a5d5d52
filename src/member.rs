//! One member from its start to its end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use raftlookupd_raft::accept::Slots;
use raftlookupd_raft::{Config as RegistryConfig, Forming, Registry};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::context::{Context, unix_millis};
use crate::error::{Error, Result};
use crate::http::long_answers::LongAnswers;
use crate::logging::Log;
use crate::metrics::Metrics;
use crate::nsqd::keeper::Keeper;
use crate::nsqd::server;
use crate::open_files::raise_limit;
use crate::signals::stopped;
use crate::version::{VERSION, version_line};
use crate::{http, listen};

/// How long the connections may take to end. nsqds notice at once; this is for a client that
/// does not read.
const DRAIN: Duration = Duration::from_millis(400);

/// How long the registry may take to close. Everything acknowledged is on disk already.
const CLOSE: Duration = Duration::from_secs(3);

/// The listeners, bound before anything is touched on disk.
struct Listeners {
    tcp: TcpListener,
    http: TcpListener,
    peers: TcpListener,
}

/// The tasks that answer on V1 and HTTP, and the switch that ends them.
struct Serving {
    addresses: [(&'static str, SocketAddr); 2],
    closing: watch::Sender<bool>,
    tcp: JoinHandle<()>,
    http: JoinHandle<()>,
}

/// Runs a member until `stop` becomes true. It may change what the log shows.
///
/// # Errors
/// Why it could not start, or cannot go on.
pub async fn run(config: Config, log: Log, stop: watch::Receiver<bool>) -> Result<()> {
    tracing::info!("{}", version_line());
    let listeners = Listeners::bind(&config)?;
    let (loaded, registry) = watch::channel(None);
    let most_connections = raise_limit();
    let metrics = Arc::new(Metrics::new());
    let timeout = config.inactive_producer_timeout;
    let keeper = Keeper::new(timeout, registry.clone(), metrics.clone());
    tokio::spawn(keeper.clone().run(timeout));
    let context = Context {
        broadcast_address: config.broadcast_address.clone(),
        hostname: config.hostname.clone(),
        tcp_port: address(&listeners.tcp)?.port(),
        http_port: address(&listeners.http)?.port(),
        version: VERSION.to_string(),
        inactive_producer_timeout: config.inactive_producer_timeout,
        tombstone_lifetime: config.tombstone_lifetime,
        log,
        metrics,
        long_answers: LongAnswers::default(),
        keeper: keeper.clone(),
        tcp_slots: Slots::new(most_connections.tcp),
        http_slots: Slots::new(most_connections.http),
        registry,
    };
    let context = Arc::new(context);
    let registry_config = registry_config(config, listeners.peers, most_connections.peers)?;

    let mut serving = Serving::start(listeners.tcp, listeners.http, context.clone())?;
    let start = async {
        let registry = Registry::start(registry_config, keeper.for_registry()).await?;
        loaded.send_replace(Some(registry.clone()));
        Ok(registry)
    };
    let ended = live(start, &mut serving, stop).await;
    serving.stop().await;
    let registry = loaded.borrow().clone();
    if let Some(registry) = registry
        && tokio::time::timeout(CLOSE, registry.shutdown())
            .await
            .is_err()
    {
        tracing::warn!("the registry did not close in time; nothing acknowledged is lost");
    }
    ended
}

/// Loads, and waits for the reason to stop.
async fn live(
    start: impl Future<Output = raftlookupd_raft::Result<Registry>>,
    serving: &mut Serving,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let registry = tokio::select! {
        started = start => started.map_err(Error::Start)?,
        what = serving.ended() => return Err(Error::Ended(what)),
        () = stopped(&mut stop) => return Ok(()),
    };
    tokio::select! {
        error = registry.failed() => Err(Error::Failed(error)),
        what = serving.ended() => Err(Error::Ended(what)),
        () = stopped(&mut stop) => Ok(()),
    }
}

impl Listeners {
    fn bind(config: &Config) -> Result<Listeners> {
        Ok(Listeners {
            tcp: listen::bind(&config.tcp_address)?,
            http: listen::bind(&config.http_address)?,
            peers: listen::bind(&config.peer_address)?,
        })
    }
}

impl Serving {
    fn start(tcp: TcpListener, http: TcpListener, context: Arc<Context>) -> Result<Serving> {
        let (closing, closed) = watch::channel(false);
        let addresses = [("TCP", address(&tcp)?), ("HTTP", address(&http)?)];
        for (what, address) in addresses {
            tracing::info!("{what}: listening on {address}");
        }
        let (tcp, http) = (listen::into_tokio(tcp)?, listen::into_tokio(http)?);
        let tcp = server::serve(tcp, context.clone(), closed.clone());
        let http = http::serve(http, context, closed);
        Ok(Serving {
            addresses,
            closing,
            tcp: tokio::spawn(tcp),
            http: tokio::spawn(http),
        })
    }

    /// Resolves when one of the two has ended by itself, which it never should.
    async fn ended(&mut self) -> &'static str {
        tokio::select! {
            _ = &mut self.tcp => "the V1 server",
            _ = &mut self.http => "the HTTP server",
        }
    }

    async fn stop(self) {
        for (what, address) in self.addresses {
            tracing::info!("{what}: closing {address}");
        }
        self.closing.send_replace(true);
        let both = async {
            for task in [self.tcp, self.http] {
                // One that `ended` has seen must not be asked again.
                if !task.is_finished() {
                    let _ = task.await;
                }
            }
        };
        if tokio::time::timeout(DRAIN, both).await.is_err() {
            tracing::debug!("some connections did not end in time");
        }
    }
}

fn registry_config(
    config: Config,
    peer_listener: TcpListener,
    most_peer_connections: usize,
) -> Result<RegistryConfig> {
    let peer_address = address(&peer_listener)?;
    tracing::info!("PEERS: listening on {peer_address}");
    Ok(RegistryConfig {
        most_peer_connections,
        peer_broadcast_address: config.peer_broadcast_address(peer_address.port()),
        peer_listener,
        name: config.name,
        data_path: config.data_path,
        forming: match config.initial_cluster {
            Some(members) => Forming::Initial(members),
            None => Forming::Alone,
        },
        heartbeat_interval: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        member_timeout: config.inactive_producer_timeout,
        wall_clock: unix_millis(),
        snapshot_count: config.snapshot_count,
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|source| Error::System {
        action: "ask for the address of a listener",
        source,
    })
}
