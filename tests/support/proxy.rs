//! The peer links of a cluster, each of which can be cut, stalled or slowed by itself.
//!
//! Every member is known to the others by the address of a proxy in front of it. A link has a
//! direction, from the member that dials to the one that answers; what is answered comes back on
//! the same connection. Who dials is read off the introduction that a connection begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
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
    names: Arc<Vec<String>>,
    runtime: Runtime,
}

impl Links {
    /// Between members of these names.
    pub fn new(names: Vec<String>) -> Links {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        Links {
            weather: Arc::new(watch::Sender::default()),
            names: Arc::new(names),
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
            for other in (0..self.names.len()).filter(|other| *other != member) {
                weather.links.insert((other, member), inwards);
                weather.links.insert((member, other), outwards);
            }
        });
    }

    /// The member's process has started.
    pub fn up(&self, member: usize) {
        self.weather.send_modify(|weather| {
            weather.down.remove(&member);
        });
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
            names: self.names.clone(),
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
    names: Arc<Vec<String>>,
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
        let mut first = [0; 1024];
        let Ok(count) = client.peek(&mut first).await else {
            return;
        };
        let name = sender(&first[..count]);
        let from =
            name.and_then(|name| self.names.iter().position(|other| other.as_bytes() == name));
        if self.state(from) == Link::Cut {
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
            () = self.clone().pump(client_read, server_write, from) => {}
            () = self.clone().pump(server_read, client_write, from) => {}
            () = self.until_cut(from) => {}
        }
    }

    async fn until_cut(&mut self, from: Option<usize>) {
        while self.state(from) != Link::Cut {
            if self.weather.changed().await.is_err() {
                return;
            }
        }
    }

    /// Copies until one side ends.
    async fn pump(
        mut self,
        mut source: OwnedReadHalf,
        mut sink: OwnedWriteHalf,
        from: Option<usize>,
    ) {
        let (leave, mut travelling) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        let departure = async move {
            let mut bytes = vec![0; 16 * 1024];
            let mut lost = false;
            let mut late = Duration::ZERO;
            while let Ok(count) = source.read(&mut bytes).await {
                let link = self.state(from);
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

    /// The state of the link that a connection from this member uses.
    fn state(&mut self, from: Option<usize>) -> Link {
        let weather = self.weather.borrow_and_update();
        let link = from.and_then(|from| weather.links.get(&(from, self.to)));
        link.copied().unwrap_or_default()
    }
}

/// The name in an introduction: behind the magic, the version of the protocol, a length of two
/// bytes and the version of the encoding, with its length in one byte.
fn sender(first: &[u8]) -> Option<&[u8]> {
    match first.strip_prefix(b"RLKP")? {
        [_, _, _, _, length, rest @ ..] => rest.get(..usize::from(*length)),
        _ => None,
    }
}
