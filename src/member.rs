//! Runs one member from its start to its end: binds, loads, serves, stops.

mod listeners;
mod serving;

use std::sync::Arc;
use std::time::Duration;

use crate::accept::Slots;
use raftlookupd_raft::{Config as RegistryConfig, Forming, Registry};
use tokio::sync::watch;

use crate::clock::unix_millis;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::context::Context;
use crate::http::long_answers::LongAnswers;
use crate::logging::Log;
use crate::metrics::Metrics;
use crate::nsqd::interface::{Identity, Interface};
use crate::nsqd::keeper::Keeper;
use crate::open_files::raise_limit;
use crate::signals::stopped;
use crate::version;
use listeners::{Listeners, address};
use serving::Serving;

/// How long the registry may take to close. Everything acknowledged is on disk already.
const CLOSE: Duration = Duration::from_secs(3);

/// Runs a member until `stop` becomes true. HTTP requests may change the level of `log`.
///
/// # Errors
/// Why it could not start, or cannot go on.
pub async fn run(config: Config, log: Log, stop: watch::Receiver<bool>) -> Result<()> {
    tracing::info!("{}", version::nsqlookupd_line());
    tracing::info!("{}", version::raftlookupd_line());
    let Listeners { tcp, http, peers } = Listeners::bind(&config)?;
    let (loaded, registry) = watch::channel(None);
    let most_connections = raise_limit();
    let metrics = Arc::new(Metrics::new());
    let timeout = config.inactive_producer_timeout;
    let keeper = Keeper::new(timeout, registry.clone(), metrics.clone());
    tokio::spawn(keeper.clone().run(timeout));
    let tcp_slots = Slots::new(most_connections.tcp);
    let interface = Interface {
        slots: tcp_slots.clone(),
        metrics: metrics.clone(),
        keeper: keeper.clone(),
        identity: Identity {
            broadcast_address: config.broadcast_address.clone(),
            hostname: config.hostname.clone(),
            tcp_port: address(&tcp)?.port(),
            http_port: address(&http)?.port(),
        },
    };
    let context = Context {
        inactive_producer_timeout: config.inactive_producer_timeout,
        tombstone_lifetime: config.tombstone_lifetime,
        log,
        metrics,
        long_answers: LongAnswers::default(),
        keeper: keeper.clone(),
        tcp_slots,
        http_slots: Slots::new(most_connections.http),
        registry,
    };
    let peers = registry_config(config, peers, most_connections.peers)?;
    let mut serving = Serving::start((tcp, interface), (http, context))?;
    let start = async {
        let registry = Registry::start(peers, keeper.for_registry()).await?;
        loaded.send_replace(Some(registry.clone()));
        Ok(registry)
    };
    let ended = live(start, &mut serving, stop).await;
    serving.stop().await;
    let registry = loaded.borrow().clone();
    if let Some(registry) = registry {
        close(registry).await;
    }
    ended
}

/// Loads, and waits for a reason to stop.
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

async fn close(registry: Registry) {
    let closed = tokio::time::timeout(CLOSE, registry.shutdown()).await;
    if closed.is_err() {
        tracing::warn!("the registry did not close in time; nothing acknowledged is lost");
    }
}

fn registry_config(
    config: Config,
    peer_listener: Option<std::net::TcpListener>,
    most_peer_connections: usize,
) -> Result<RegistryConfig> {
    let peer_port = match &peer_listener {
        Some(listener) => {
            let peer_address = address(listener)?;
            tracing::info!("PEERS: listening on {peer_address}");
            peer_address.port()
        }
        None => 0,
    };
    Ok(RegistryConfig {
        most_peer_connections,
        peer_broadcast_address: config.peer_broadcast_address(peer_port),
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
        min_free_bytes: config.min_free_bytes,
    })
}
