//! Members of one cluster in one process, over real sockets and disks.
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use raftlookupd_raft::owner::{Owner, Room, SharedOwner};
use raftlookupd_raft::storage::event::{Event, Refusal};
use raftlookupd_raft::storage::registration::{MemberId, UnixMillis};
use raftlookupd_raft::storage::registration_db::{Note, RegistrationDb};
use raftlookupd_raft::{Changed, Config, Error, Forming, MembershipChange, Registry};
use tempfile::TempDir;
use tokio::sync::Notify;

pub const DEADLINE: Duration = Duration::from_secs(20);

/// No test takes nearly as long, unless it hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Some time.
pub const NOON: u64 = 1_700_000_000_000;

/// For how long a member may be away before its nsqds are hidden.
pub const MEMBER_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs a test on threads of its own, and fails if it hangs, also if it blocks all of them.
pub fn run(test: impl Future<Output = ()> + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let running = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
        done.send(()).unwrap();
        runtime.shutdown_background();
    });
    match ended.recv_timeout(WATCHDOG) {
        Err(RecvTimeoutError::Timeout) => panic!("the test hangs"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            if let Err(panic) = running.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Repeats the question until the answer is `Some`.
pub async fn wait_for<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Repeats the question until the answer is yes.
pub async fn wait_until(what: &str, mut question: impl FnMut() -> bool) {
    wait_for(what, || question().then_some(())).await;
}

/// A barrier, repeated: on a busy machine rounds may have failed for seconds, and then it fails at
/// once.
pub async fn barrier(member: &Registry) {
    let begun = Instant::now();
    while let Err(error) = member.barrier(DEADLINE).await {
        assert!(begun.elapsed() < DEADLINE, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A write to a member that has a quorum.
pub async fn write(member: &Registry, event: Event) -> Result<(), Error> {
    barrier(member).await;
    member.write(event, DEADLINE).await
}

pub fn create(topic: &str) -> Event {
    Event::CreateTopic {
        topic: topic.into(),
    }
}

pub fn topics(registry: &Registry) -> Vec<String> {
    registry.read(|db| db.topics().map(String::from).collect())
}

/// Sessions that a test makes up.
#[derive(Default)]
pub struct Sessions {
    /// What is proposed next.
    pub events: Vec<Event>,
    /// Holds up the next call of `propose`, once it has said that it has come.
    pub hold: Option<(Sender<()>, Receiver<()>)>,
    /// The incarnations that have begun, and whether a snapshot began them.
    pub begun: Vec<(u64, bool)>,
}

impl Owner for Sessions {
    fn loaded(&mut self, _: MemberId, incarnation: u64, _: &RegistrationDb) {
        self.begun.push((incarnation, false));
    }

    fn replaced(&mut self, _: MemberId, incarnation: u64, _: &RegistrationDb) {
        self.begun.push((incarnation, true));
    }

    fn propose(
        &mut self,
        _: u64,
        _: u64,
        _: UnixMillis,
        _: Room,
        _: &RegistrationDb,
    ) -> Vec<Event> {
        if let Some((held, release)) = self.hold.take() {
            held.send(()).unwrap();
            // The test may have failed.
            let _ = release.recv();
        }
        std::mem::take(&mut self.events)
    }

    fn has_more(&self) -> bool {
        false
    }

    fn committed(&mut self, _: u64, _: u64, _: &[(u32, Refusal)]) {}

    fn applied(&mut self, _: Vec<Note>, _: &RegistrationDb) -> bool {
        false
    }
}

/// Where a member lives; it can be started again and again.
pub struct Place {
    pub name: String,
    pub wall_clock: u64,
    pub snapshot_count: u64,
    pub sessions: Arc<Mutex<Sessions>>,
    pub address: String,
    folder: TempDir,
    forming: Forming,
}

impl Place {
    fn new(name: &str, address: String, forming: Forming) -> Place {
        Place {
            name: name.into(),
            wall_clock: NOON,
            snapshot_count: 5_000,
            sessions: Arc::default(),
            address,
            folder: tempfile::tempdir().unwrap(),
            forming,
        }
    }

    /// The only member of its cluster.
    pub fn alone() -> Place {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Place::new("only", address(&listener), Forming::Alone)
    }

    /// An idle connection to its peer port.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    pub async fn start(&self) -> Registry {
        self.start_with(TcpListener::bind(&self.address).unwrap())
            .await
    }

    async fn start_with(&self, peer_listener: TcpListener) -> Registry {
        let config = Config {
            name: self.name.clone(),
            data_path: self.folder.path().to_path_buf(),
            peer_listener: Some(peer_listener),
            peer_broadcast_address: self.address.clone(),
            forming: self.forming.clone(),
            most_peer_connections: 64,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(300)..Duration::from_millis(600),
            member_timeout: MEMBER_TIMEOUT,
            wall_clock: self.wall_clock,
            snapshot_count: self.snapshot_count,
            min_free_bytes: Some(0),
        };
        let owner = SharedOwner::new(self.sessions.clone(), Arc::new(Notify::new()));
        Registry::start(config, owner).await.unwrap()
    }
}

/// Places for members a, b, c with the listeners that hold their ports.
pub fn three_places() -> Vec<(Place, TcpListener)> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let names = ["a", "b", "c"];
    let members: BTreeMap<String, String> = names
        .map(String::from)
        .into_iter()
        .zip(listeners.iter().map(address))
        .collect();
    let places = names.into_iter().zip(listeners).map(|(name, listener)| {
        let forming = Forming::Initial(members.clone());
        (Place::new(name, address(&listener), forming), listener)
    });
    places.collect()
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().unwrap().to_string()
}

pub async fn start_three() -> Vec<(Place, Registry)> {
    start_all(three_places()).await
}

/// The members start at once, in whichever order their tasks run.
pub async fn start_all(places: Vec<(Place, TcpListener)>) -> Vec<(Place, Registry)> {
    let mut starting = tokio::task::JoinSet::new();
    for (place, listener) in places {
        starting.spawn(async move {
            let registry = place.start_with(listener).await;
            (place, registry)
        });
    }
    let mut members = tokio::time::timeout(DEADLINE, starting.join_all())
        .await
        .unwrap();
    members.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    members
}

/// Waits until the first batch of each member is applied at each: nothing is on its way then.
pub async fn settled(members: &[(Place, Registry)]) {
    for (_, at) in members {
        for (_, member) in members {
            let id = member.member_id();
            let what = "the first batch of each member is applied";
            wait_until(what, || at.read(|db| db.member(id).is_some())).await;
        }
        barrier(at).await;
    }
}

/// The leader, and the others.
pub fn parted(members: &[(Place, Registry)]) -> (Registry, Vec<Registry>) {
    let leader = members
        .iter()
        .find_map(|(_, member)| member.status().leader);
    let (mut led, followers): (Vec<_>, Vec<_>) = members
        .iter()
        .map(|(_, member)| member.clone())
        .partition(|member| Some(member.member_id()) == leader);
    (led.remove(0), followers)
}

/// Holds up all changes of a member's registry, until it is dropped.
pub struct Held {
    _release: Sender<()>,
}

impl Held {
    /// A thread of its own reads, without an end.
    pub fn registry_of(member: &Registry) -> Held {
        let (release, released) = mpsc::channel::<()>();
        let (held, is_held) = mpsc::channel();
        let reader = member.clone();
        thread::spawn(move || {
            reader.read(|_| {
                held.send(()).unwrap();
                let _ = released.recv();
            });
        });
        is_held.recv().unwrap();
        Held { _release: release }
    }
}

/// A further member of the cluster that these places form, with the listener that holds its port.
pub fn newcomer(name: &str, places: &[&Place]) -> (Place, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut members: BTreeMap<String, String> = places
        .iter()
        .map(|place| (place.name.clone(), place.address.clone()))
        .collect();
    members.insert(name.into(), address(&listener));
    let forming = Forming::Initial(members);
    (Place::new(name, address(&listener), forming), listener)
}

/// Repeats a change of the membership until there is a quorum for it.
pub async fn change(at: &Registry, change: MembershipChange) -> Result<Changed, Error> {
    loop {
        match at.change_membership(change.clone(), DEADLINE).await {
            Err(Error::NoQuorum) => {}
            changed => return changed,
        }
    }
}
