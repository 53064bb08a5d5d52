//! What is measured: a cluster that runs already, or one that is started for it.

mod etcd;
mod nsqlookupd;
mod process;
mod raftlookupd;
pub(crate) mod spec;

use std::fmt;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tempfile::TempDir;

use crate::clients::http;
use crate::error::{Error, Result};
pub(crate) use process::{Memory, Process};
use spec::{Program, Spec};

/// How long a target may take to start, and for what is waited for besides. A registry of a
/// million registrations is not there at once, and the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(2);

/// Which program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// This project.
    Raftlookupd,
    /// Upstream's: each member stands alone and remembers nothing.
    Nsqlookupd,
    /// For comparable puts and gets.
    Etcd,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Raftlookupd, Kind::Nsqlookupd, Kind::Etcd];

    fn name(self) -> &'static str {
        match self {
            Kind::Raftlookupd => "raftlookupd",
            Kind::Nsqlookupd => "nsqlookupd",
            Kind::Etcd => "etcd",
        }
    }

    /// Whether its members know what clients told the others.
    pub(crate) fn is_replicated(self) -> bool {
        self != Kind::Nsqlookupd
    }

    /// Whether it speaks NSQ's protocols.
    pub(crate) fn is_lookupd(self) -> bool {
        self != Kind::Etcd
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// One member of a target.
#[derive(Debug)]
pub(crate) struct Member {
    /// V1; etcd has none.
    pub(crate) tcp: SocketAddr,
    /// Lookups; etcd's clients.
    pub(crate) http: SocketAddr,
    process: Option<Process>,
}

/// A running cluster, or a lone member.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) members: Vec<Member>,
    /// What the started members write; dropped behind their processes.
    _folder: Option<TempDir>,
}

impl Target {
    /// Which program it is; one that runs is asked.
    ///
    /// # Errors
    /// As the clients'.
    pub(crate) async fn kind_of(spec: &Spec) -> Result<Kind> {
        match spec {
            Spec::Start(program) => Ok(program.kind),
            Spec::Running { http, .. } => {
                // Only raftlookupd has this path.
                let (status, _) = http::fetch_once(http[0], "/cluster/status").await?;
                Ok(match status {
                    404 => Kind::Nsqlookupd,
                    _ => Kind::Raftlookupd,
                })
            }
        }
    }

    /// Starts a new cluster with nothing in it, or takes the one that runs.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Waited`].
    pub(crate) async fn start(spec: &Spec, kind: Kind, folder: &Path) -> Result<Target> {
        match spec {
            Spec::Running { tcp, http } => Ok(Target::running(kind, tcp, http)),
            Spec::Start(program) => Target::started(program, folder).await,
        }
    }

    async fn started(program: &Program, folder: &Path) -> Result<Target> {
        let folder = tempfile::Builder::new()
            .prefix("raftlookupd-bench-")
            .tempdir_in(folder)
            .map_err(Error::io(format!("make a folder in {}", folder.display())))?;
        let members = match program.kind {
            Kind::Raftlookupd => raftlookupd::members(program, folder.path()),
            Kind::Nsqlookupd => nsqlookupd::members(program, folder.path()),
            Kind::Etcd => etcd::members(program, folder.path()),
        }?;
        let mut target = Target {
            kind: program.kind,
            members,
            _folder: Some(folder),
        };
        for member in &mut target.members {
            if let Some(process) = &mut member.process {
                process.start()?;
            }
        }
        for member in &target.members {
            target.wait_ready(member).await?;
        }
        Ok(target)
    }

    fn running(kind: Kind, tcp: &[SocketAddr], http: &[SocketAddr]) -> Target {
        let member = |(tcp, http): (&SocketAddr, &SocketAddr)| Member {
            tcp: *tcp,
            http: *http,
            process: None,
        };
        Target {
            kind,
            members: tcp.iter().zip(http).map(member).collect(),
            _folder: None,
        }
    }

    async fn wait_ready(&self, member: &Member) -> Result<()> {
        let what = format!("a member of {} to answer", self.kind);
        wait_until(&what, || async {
            match self.kind {
                Kind::Raftlookupd => raftlookupd::is_ready(member).await,
                Kind::Nsqlookupd => nsqlookupd::is_ready(member).await,
                Kind::Etcd => etcd::is_ready(member).await,
            }
        })
        .await
    }

    /// The members among which clients are spread. Each nsqlookupd knows only its own nsqds, so
    /// one of them does all the work.
    pub(crate) fn spread(&self) -> &[Member] {
        match self.kind {
            Kind::Nsqlookupd => &self.members[..1],
            Kind::Raftlookupd | Kind::Etcd => &self.members,
        }
    }

    /// The member that client number so-and-so is connected to.
    pub(crate) fn member_for(&self, client: usize) -> &Member {
        let members = self.spread();
        &members[client % members.len()]
    }

    /// The position of the leader; the first member where there is none.
    ///
    /// # Errors
    /// As the clients', and [`Error::Waited`] if there is none for long.
    pub(crate) async fn leader(&self) -> Result<usize> {
        match self.kind {
            Kind::Raftlookupd => raftlookupd::leader(&self.members).await,
            Kind::Nsqlookupd => Ok(0),
            Kind::Etcd => etcd::leader(&self.members).await,
        }
    }

    /// The position of a member that does not lead; the only one if it is alone.
    ///
    /// # Errors
    /// As [`Target::leader`].
    pub(crate) async fn follower(&self) -> Result<usize> {
        Ok((self.leader().await? + 1) % self.spread().len())
    }

    /// How many entries the log has had; `None` where there is no log to ask for.
    ///
    /// # Errors
    /// As the clients'.
    pub(crate) async fn log_index(&self) -> Result<Option<u64>> {
        match self.kind {
            Kind::Raftlookupd => {
                let leader = raftlookupd::leader(&self.members).await?;
                raftlookupd::log_index(&self.members[leader])
                    .await
                    .map(Some)
            }
            Kind::Nsqlookupd | Kind::Etcd => Ok(None),
        }
    }

    /// Whether members can be killed and started.
    pub(crate) fn is_ours(&self) -> bool {
        self.members.iter().all(|member| member.process.is_some())
    }

    /// kill -9.
    ///
    /// # Errors
    /// [`Error::NotOurs`], [`Error::Io`].
    pub(crate) fn kill(&mut self, member: usize) -> Result<()> {
        self.process(member)?.kill()
    }

    /// Starts a killed member again; does not wait for it.
    ///
    /// # Errors
    /// [`Error::NotOurs`], [`Error::Io`].
    pub(crate) fn restart(&mut self, member: usize) -> Result<()> {
        self.process(member)?.start()
    }

    /// The most memory that a member has, and the most that one has had; `None` unless all were
    /// started here.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn memory(&self) -> Result<Option<Memory>> {
        let mut most = Memory::default();
        for member in self.spread() {
            let Some(process) = &member.process else {
                return Ok(None);
            };
            most = most.most(process.memory()?);
        }
        Ok(Some(most))
    }

    /// The bytes that the member with the most has on disk; `None` where nothing is kept, or
    /// unless all were started here.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn disk(&self) -> Result<Option<u64>> {
        let mut most = None;
        for member in &self.members {
            let used = member.process.as_ref().map(Process::disk);
            most = most.max(used.transpose()?.flatten());
        }
        Ok(most)
    }

    fn process(&mut self, member: usize) -> Result<&mut Process> {
        let process = self.members.get_mut(member);
        let process = process.and_then(|member| member.process.as_mut());
        process.ok_or(Error::NotOurs(self.kind))
    }
}

/// Looks again and again until there is something.
///
/// # Errors
/// [`Error::Waited`] after [`PATIENCE`].
pub(crate) async fn wait_for<T, F>(what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            return Err(Error::Waited {
                what: what.into(),
                waited: PATIENCE,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Looks again and again until it is so.
///
/// # Errors
/// As [`wait_for`].
pub(crate) async fn wait_until<F>(what: &str, mut is_so: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = bool>,
{
    wait_for(what, || {
        let is_so = is_so();
        async move { is_so.await.then_some(()) }
    })
    .await
}

/// Ports below those that the kernel gives to outgoing connections: one of the many clients could
/// take the port of a member that is being restarted.
const PORTS: Range<u16> = 15_000..32_000;

/// A loopback address that nobody listens on.
fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two benchmarks at the same time begin at different places.
    let begin = std::process::id() as u16;
    let mut refused = None;
    for _ in PORTS {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok((Ipv4Addr::LOCALHOST, port).into()),
            Err(error) => refused = Some(error),
        }
    }
    let error = refused.unwrap_or_else(|| ErrorKind::AddrInUse.into());
    Err(Error::io("find a free port")(error))
}
