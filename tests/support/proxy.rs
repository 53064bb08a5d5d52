//! The peer links of a cluster, each of which can be cut, stalled or slowed by itself.
//!
//! Every member is known to the others by the address of a proxy in front of it. Who connects is
//! found out from the system's table of sockets, so a link has a direction: from the member that
//! dials to the one that answers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to the bytes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Pass,
    /// Connections are broken, new ones too.
    Cut,
    /// Connections stay open and nothing arrives any more.
    Stall,
    /// Everything arrives late, in both directions of the connection.
    Slow(Duration),
}

/// The state of all links, by (from, to).
#[derive(Clone, Default)]
pub struct Links {
    states: Arc<Mutex<BTreeMap<(usize, usize), Link>>>,
    pids: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl Links {
    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.states().insert((from, to), link);
    }

    pub fn heal(&self) {
        self.states().clear();
    }

    /// Which process a member is now.
    pub fn note_pid(&self, pid: u32, member: usize) {
        self.pids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pid, member);
    }

    /// Starts the proxy in front of a member; it ends with the process of the test.
    pub fn listen(&self, proxy_port: u16, member: usize, member_port: u16) {
        let listener = TcpListener::bind(("127.0.0.1", proxy_port)).unwrap();
        let links = self.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let links = links.clone();
                std::thread::spawn(move || links.carry(client, member, member_port));
            }
        });
    }

    fn state(&self, from: Option<usize>, to: usize) -> Link {
        let found = from.and_then(|from| self.states().get(&(from, to)).copied());
        found.unwrap_or(Link::Pass)
    }

    fn states(&self) -> std::sync::MutexGuard<'_, BTreeMap<(usize, usize), Link>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(&self, client: TcpStream, to: usize, port: u16) {
        let from = client
            .peer_addr()
            .ok()
            .and_then(|peer| self.owner(peer.port()));
        if self.state(from, to) == Link::Cut {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
            return;
        };
        let (Ok(client_twin), Ok(server_twin)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        let back = self.clone();
        let answers = std::thread::spawn(move || back.pump(server_twin, client_twin, from, to));
        self.pump(client, server, from, to);
        let _ = answers.join();
    }

    /// Copies until one side ends or the link is cut.
    fn pump(&self, mut source: TcpStream, mut sink: TcpStream, from: Option<usize>, to: usize) {
        let mut bytes = [0; 16 * 1024];
        let _ = source.set_read_timeout(Some(Duration::from_millis(20)));
        let _ = sink.set_nodelay(true);
        loop {
            let read = source.read(&mut bytes);
            let count = match (read, self.state(from, to)) {
                (_, Link::Cut) | (Ok(0), _) => break,
                (Err(error), _) if error.kind() == ErrorKind::WouldBlock => continue,
                (Err(_), _) => break,
                (Ok(_), Link::Stall) => continue,
                (Ok(count), Link::Slow(late)) => {
                    std::thread::sleep(late);
                    count
                }
                (Ok(count), Link::Pass) => count,
            };
            if sink.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = source.shutdown(Shutdown::Both);
        let _ = sink.shutdown(Shutdown::Both);
    }

    /// The member whose process has this local port.
    fn owner(&self, port: u16) -> Option<usize> {
        let table = fs::read_to_string("/proc/net/tcp").ok()?;
        let local = format!("0100007F:{port:04X}");
        let inode = table.lines().find_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            (fields.next()? == local).then(|| fields.nth(7)).flatten()
        })?;
        let socket = format!("socket:[{inode}]");
        let pids = self
            .pids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let owns = |pid: u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten();
            files
                .filter_map(|file| fs::read_link(file.path()).ok())
                .any(|target| target.as_os_str() == socket.as_str())
        };
        pids.into_iter()
            .find(|(pid, _)| owns(*pid))
            .map(|(_, member)| member)
    }
}
