//! Accepts connections, at most as many as can be served, until it is told to stop. The two
//! interfaces that face NSQ share it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Pause after an error of accept, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Pauses from one log line to the next.
const PAUSES_PER_LINE: u64 = 50;

/// Interval between log lines that all slots are taken.
const REMIND: Duration = Duration::from_secs(60);

/// How many connections an interface may have at the same time. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    most: usize,
}

impl Slots {
    /// All free.
    pub(crate) fn new(most: usize) -> Slots {
        Slots {
            free: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// How many connections there can be.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// How many there are.
    pub(crate) fn taken(&self) -> usize {
        self.most.saturating_sub(self.free.available_permits())
    }
}

/// Dropped when its connection has ended, which lets another one in.
#[derive(Debug)]
pub(crate) struct Admission {
    _permit: OwnedSemaphorePermit,
    _open: mpsc::Sender<()>,
}

/// Hands each connection to `serve`, which must hold on to its admission. Returns when all
/// connections have ended after `stop` became true.
pub(crate) async fn accept(
    what: &'static str,
    listener: TcpListener,
    slots: &Slots,
    mut stop: watch::Receiver<bool>,
    mut serve: impl FnMut(TcpStream, SocketAddr, Admission),
) {
    // Receives nothing: it ends when the last sender is dropped.
    let (open, mut all_ended) = mpsc::channel::<()>(1);
    let mut errors: u64 = 0;
    let mut reminded: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = next(what, &listener, slots, &mut reminded) => accepted,
        };
        match accepted {
            Some((permit, Ok((stream, remote)))) => {
                errors = 0;
                // A listener for both families shows IPv4 as ::ffff:10.0.0.1.
                let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%remote, %error, "no TCP_NODELAY");
                }
                let admission = Admission {
                    _permit: permit,
                    _open: open.clone(),
                };
                serve(stream, remote, admission);
            }
            Some((_, Err(error))) => {
                if errors.is_multiple_of(PAUSES_PER_LINE) {
                    tracing::error!(%error, "{what}: cannot accept connections");
                }
                errors += 1;
                tokio::time::sleep(PAUSE).await;
            }
            None => break,
        }
    }
    drop(listener);
    drop(open);
    // Always `None`: nothing is ever sent.
    let _ = all_ended.recv().await;
}

/// Waits for a slot, and then for a connection; `None` if slots are no longer given out.
async fn next(
    what: &'static str,
    listener: &TcpListener,
    slots: &Slots,
    reminded: &mut Option<Instant>,
) -> Option<(OwnedSemaphorePermit, io::Result<(TcpStream, SocketAddr)>)> {
    if slots.free.available_permits() == 0
        && reminded.is_none_or(|reminded| reminded.elapsed() > REMIND)
    {
        *reminded = Some(Instant::now());
        tracing::warn!(
            most = slots.most,
            "{what}: no more connections are served, new ones wait; \
             the limit follows that of open files"
        );
    }
    let permit = slots.free.clone().acquire_owned().await.ok()?;
    Some((permit, listener.accept().await))
}
