//! The peer links of a cluster, each of which can be cut, stalled or slowed by itself.
//!
//! Every member is known to the others by the address of a proxy in front of it. A link has a
//! direction, from the member that dials to the one that answers; what is answered comes back on
//! the same connection. Who dials is read off its first message. One that does not say it, as when
//! a cluster forms, is looked up by the process that owns the other end of the connection
//! (`/proc`, hence Linux): slow where there are many sockets, so only where it matters, not while
//! all links to a member are in the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

/// What happens to the bytes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    #[default]
    Pass,
    /// Connections are broken, new ones too.
    Cut,
    /// Connections stay open and nothing arrives any more. One that has lost bytes stays dead when
    /// the link is healed, as behind a firewall that has forgotten it.
    Stall,
    /// Everything arrives late, in both directions of the connection.
    Slow(Duration),
}

/// What all proxies are told.
#[derive(Debug, Clone, Default)]
struct Weather {
    /// By (from, to).
    links: BTreeMap<(usize, usize), Link>,
    /// Members whose process is gone: their address refuses connections, as without a proxy.
    down: BTreeSet<usize>,
}

/// The proxies in front of the members of one cluster; they end when this is dropped.
pub struct Links {
    weather: Arc<watch::Sender<Weather>>,
    owners: Arc<Owners>,
    members: usize,
    runtime: Runtime,
}

impl Links {
    pub fn new(members: usize) -> Links {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Links {
            weather: Arc::new(watch::Sender::default()),
            owners: Arc::default(),
            members,
            runtime: runtime.unwrap(),
        }
    }

    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.weather.send_modify(|weather| {
            weather.links.insert((from, to), link);
        });
    }

    pub fn heal(&self) {
        self.weather.send_modify(|weather| weather.links.clear());
    }

    /// The links of one member: those that lead to it, and those on which it dials.
    pub fn around(&self, member: usize, inwards: Link, outwards: Link) {
        self.weather.send_modify(|weather| {
            for other in (0..self.members).filter(|other| *other != member) {
                weather.links.insert((other, member), inwards);
                weather.links.insert((member, other), outwards);
            }
        });
    }

    /// The member's process is this one now.
    pub fn up(&self, member: usize, pid: u32) {
        lock(&self.owners.pids).insert(member, pid);
        self.weather.send_modify(|weather| {
            weather.down.remove(&member);
        });
    }

    /// The member's Raft node id is this one now.
    pub fn learn(&self, member: usize, id: u64) {
        lock(&self.owners.ids).insert(id, member);
    }

    /// The member's process is gone.
    pub fn down(&self, member: usize) {
        self.weather.send_modify(|weather| {
            weather.down.insert(member);
        });
    }

    /// Starts the proxy in front of a member.
    pub fn listen(&self, proxy_port: u16, member: usize, member_port: u16) {
        let front = Front {
            to: member,
            port: member_port,
            members: self.members,
            owners: self.owners.clone(),
            weather: self.weather.subscribe(),
        };
        let first = self.runtime.block_on(bind(proxy_port)).unwrap();
        self.runtime.spawn(front.serve(proxy_port, first));
    }
}

async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await
}

/// The proxy in front of one member.
#[derive(Clone)]
struct Front {
    to: usize,
    port: u16,
    members: usize,
    owners: Arc<Owners>,
    weather: watch::Receiver<Weather>,
}

impl Front {
    async fn serve(mut self, port: u16, first: TcpListener) {
        let to = self.to;
        let mut weather = self.weather.clone();
        let mut listener = Some(first);
        loop {
            let Some(open) = &listener else {
                if self
                    .weather
                    .wait_for(|now| !now.down.contains(&to))
                    .await
                    .is_err()
                {
                    return;
                }
                listener = bind(port).await.ok();
                continue;
            };
            tokio::select! {
                _ = weather.wait_for(|now| now.down.contains(&to)) => listener = None,
                accepted = open.accept() => {
                    if let Ok((client, _)) = accepted {
                        tokio::spawn(self.clone().carry(client));
                    }
                }
            }
        }
    }

    async fn carry(mut self, client: TcpStream) {
        let _ = client.set_nodelay(true);
        let Ok(peer) = client.peer_addr() else { return };
        let mut first = [0; 1024];
        let Ok(count) = client.peek(&mut first).await else {
            return;
        };
        let id = sender(&first[..count]);
        let mut dialled = Dialled {
            at: Instant::now(),
            port: peer.port(),
            from: id.and_then(|id| lock(&self.owners.ids).get(&id).copied()),
        };
        if self.state(&mut dialled).await == Link::Cut {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.port)).await else {
            return;
        };
        let _ = server.set_nodelay(true);
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        // Whichever direction ends first ends the other; both are dropped, and so closed.
        tokio::select! {
            () = self.clone().pump(client_read, server_write, dialled) => {}
            () = self.clone().pump(server_read, client_write, dialled) => {}
            () = self.until_cut(dialled) => {}
        }
    }

    async fn until_cut(&mut self, mut dialled: Dialled) {
        while self.state(&mut dialled).await != Link::Cut {
            if self.weather.changed().await.is_err() {
                return;
            }
        }
    }

    /// Copies until one side ends.
    async fn pump(mut self, mut source: OwnedReadHalf, mut sink: OwnedWriteHalf, from: Dialled) {
        let (leave, mut travelling) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let departure = async move {
            let mut dialled = from;
            let mut bytes = vec![0; 16 * 1024];
            let mut lost = false;
            let mut late = Duration::ZERO;
            while let Ok(count) = source.read(&mut bytes).await {
                let link = self.state(&mut dialled).await;
                lost |= link == Link::Stall;
                late = match link {
                    Link::Slow(late) => late,
                    // The end of a connection travels as long as the bytes before it, so that
                    // who receives them can act on them.
                    _ if count == 0 => late,
                    _ => Duration::ZERO,
                };
                if !lost
                    && leave
                        .send((Instant::now() + late, bytes[..count].to_vec()))
                        .is_err()
                {
                    return;
                }
                if count == 0 {
                    return;
                }
            }
        };
        let arrival = async {
            while let Some((at, bytes)) = travelling.recv().await {
                tokio::time::sleep_until(at.into()).await;
                if bytes.is_empty() || sink.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::pin!(departure, arrival);
        tokio::select! {
            () = &mut departure => arrival.await,
            () = &mut arrival => {}
        }
    }

    /// The state of the link that this connection uses.
    async fn state(&mut self, dialled: &mut Dialled) -> Link {
        let weather = self.weather.borrow_and_update().clone();
        let link = |from: usize| weather.links.get(&(from, self.to)).copied();
        let others = (0..self.members).filter(|other| *other != self.to);
        let states: Vec<Link> = others.map(|from| link(from).unwrap_or_default()).collect();
        if states.windows(2).all(|pair| pair[0] == pair[1]) {
            return states.first().copied().unwrap_or_default();
        }
        if dialled.from.is_none() {
            let (owners, at, port) = (self.owners.clone(), dialled.at, dialled.port);
            let found = tokio::task::spawn_blocking(move || owners.find(port, at)).await;
            dialled.from = found.ok().flatten();
        }
        dialled.from.and_then(link).unwrap_or_default()
    }
}

/// One connection, as seen by the proxy.
#[derive(Debug, Clone, Copy)]
struct Dialled {
    at: Instant,
    port: u16,
    from: Option<usize>,
}

/// The Raft node id of a message's sender: behind HTTP's head or the magic of a lane with the
/// length of its first frame, a version byte, the cluster's id (a marker and 16 bytes), and then
/// the sender's id in one byte. `None` if it looks otherwise.
fn sender(first: &[u8]) -> Option<u64> {
    let lane = first.strip_prefix(b"\0RL1");
    let message = match lane.or(first.strip_prefix(b"\0WL1")) {
        Some(frame) => frame.get(4..)?,
        None => {
            let head = first.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
            &first[head + 4..]
        }
    };
    match message {
        [1, 254, rest @ ..] => rest.get(16).copied().filter(|id| *id < 251).map(u64::from),
        _ => None,
    }
}

/// Which member has which node ids and local ports.
#[derive(Default)]
struct Owners {
    ids: Mutex<BTreeMap<u64, usize>>,
    pids: Mutex<BTreeMap<usize, u32>>,
    seen: Mutex<Option<(Instant, BTreeMap<u16, usize>)>>,
}

impl Owners {
    /// Looks at the system's tables, unless that was done since the connection was there.
    fn find(&self, port: u16, since: Instant) -> Option<usize> {
        let mut seen = lock(&self.seen);
        let owners = match seen.take() {
            Some((at, owners)) if at > since => (at, owners),
            _ => (Instant::now(), self.look()),
        };
        seen.insert(owners).1.get(&port).copied()
    }

    fn look(&self) -> BTreeMap<u16, usize> {
        let mut sockets = BTreeMap::new();
        for (member, pid) in lock(&self.pids).clone() {
            let files = fs::read_dir(format!("/proc/{pid}/fd"));
            for file in files.into_iter().flatten().flatten() {
                let target = fs::read_link(file.path()).unwrap_or_default();
                sockets.insert(target.to_string_lossy().into_owned(), member);
            }
        }
        let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let lines = table.lines().skip(1);
        lines
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let port = fields.get(1)?.split(':').nth(1)?;
                let member = sockets.get(&format!("socket:[{}]", fields.get(9)?))?;
                Some((u16::from_str_radix(port, 16).ok()?, *member))
            })
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
