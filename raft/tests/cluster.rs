//! Three members in one process, over real sockets and disks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use raftlookupd_raft::storage::event::{Event, Refusal};
use raftlookupd_raft::{Config, Error, Forming, Registry};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(20);

/// Some time.
const NOON: u64 = 1_700_000_000_000;

/// Where a member lives; it can be started again and again.
struct Place {
    name: String,
    folder: TempDir,
    address: String,
    forming: Forming,
    wall_clock: u64,
}

impl Place {
    fn config(&self, peer_listener: TcpListener) -> Config {
        Config {
            name: self.name.clone(),
            data_path: self.folder.path().to_path_buf(),
            peer_listener,
            peer_broadcast_address: self.address.clone(),
            forming: self.forming.clone(),
            most_peer_connections: 64,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(300)..Duration::from_millis(600),
            member_timeout: Duration::from_secs(300),
            wall_clock: self.wall_clock,
            snapshot_count: 5_000,
        }
    }

    async fn start(&self) -> Registry {
        let listener = TcpListener::bind(&self.address).unwrap();
        Registry::start(self.config(listener)).await.unwrap()
    }
}

/// Places for members a, b, c with the listeners that hold their ports.
fn three_places() -> Vec<(Place, TcpListener)> {
    let listeners: Vec<TcpListener> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let names = ["a", "b", "c"].map(String::from);
    let members: BTreeMap<String, String> = names
        .iter()
        .cloned()
        .zip(listeners.iter().map(address))
        .collect();
    names
        .into_iter()
        .zip(listeners)
        .map(|(name, listener)| {
            let place = Place {
                address: address(&listener),
                folder: tempfile::tempdir().unwrap(),
                forming: Forming::Initial(members.clone()),
                wall_clock: NOON,
                name,
            };
            (place, listener)
        })
        .collect()
}

async fn start_three() -> Vec<(Place, Registry)> {
    start_all(three_places()).await
}

/// The members start at once, in whichever order their tasks run.
async fn start_all(places: Vec<(Place, TcpListener)>) -> Vec<(Place, Registry)> {
    let mut starting = tokio::task::JoinSet::new();
    for (place, listener) in places {
        starting.spawn(async move {
            let registry = Registry::start(place.config(listener)).await.unwrap();
            (place, registry)
        });
    }
    let mut members = tokio::time::timeout(DEADLINE, starting.join_all())
        .await
        .unwrap();
    members.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    members
}

fn create(topic: &str) -> Event {
    Event::CreateTopic {
        topic: topic.into(),
    }
}

fn topics(registry: &Registry) -> Vec<String> {
    registry.read(|db| db.topics().map(String::from).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_at_any_member_is_read_at_any_other() {
    let members = start_three().await;
    for (number, (_, writer)) in members.iter().enumerate() {
        writer.barrier(DEADLINE).await.unwrap();
        writer
            .write(create(&format!("t{number}")), DEADLINE)
            .await
            .unwrap();
        for (_, reader) in &members {
            reader.barrier(DEADLINE).await.unwrap();
            assert_eq!(topics(reader).len(), number + 1);
        }
    }
    let refused = members[1].1.write(
        Event::DeleteChannel {
            topic: "t0".into(),
            channel: "none".into(),
        },
        DEADLINE,
    );
    let refused = refused.await.unwrap_err();
    assert!(
        matches!(refused, Error::Refused(Refusal::ChannelNotFound)),
        "{refused}"
    );
    let ids: Vec<u64> = members
        .iter()
        .map(|(_, member)| member.member_id())
        .collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submitted_events_are_applied_in_order_and_once() {
    let members = start_three().await;
    members[2].1.barrier(DEADLINE).await.unwrap();
    let mut pending = Vec::new();
    for _ in 0..200 {
        pending.push(members[2].1.submit(create("orders")).unwrap());
        pending.push(
            members[2]
                .1
                .submit(Event::DeleteTopic {
                    topic: "orders".into(),
                })
                .unwrap(),
        );
    }
    pending.push(members[2].1.submit(create("last")).unwrap());
    for fate in pending {
        tokio::time::timeout(DEADLINE, fate).await.unwrap().unwrap();
    }
    members[0].1.barrier(DEADLINE).await.unwrap();
    assert_eq!(topics(&members[0].1), ["last"]);
    let entries = members[0].1.status().last_log_index;
    assert!(entries < 200, "401 events took {entries} log entries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_promised_and_nothing_is_lost() {
    let mut members = start_three().await;
    members[0]
        .1
        .write(create("before"), DEADLINE)
        .await
        .unwrap();
    let (place_b, b) = members.remove(1);
    let (place_c, c) = members.remove(1);
    b.shutdown().await;
    c.shutdown().await;
    drop((b, c));
    let a = &members[0].1;
    let short = Duration::from_millis(300);
    assert!(matches!(a.barrier(short).await, Err(Error::NoQuorum)));
    assert!(matches!(
        a.write(create("refused"), short).await,
        Err(Error::NoQuorum)
    ));
    let debt = a.submit(create("debt")).unwrap();
    let listener = TcpListener::bind(&place_b.address).unwrap();
    let b = Registry::start(place_b.config(listener)).await.unwrap();
    tokio::time::timeout(DEADLINE, debt).await.unwrap().unwrap();
    b.barrier(DEADLINE).await.unwrap();
    assert_eq!(topics(&b), ["before", "debt"]);
    drop(place_c);
}

/// What a follower shows already, the leader and the others must not deny any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_leader_that_is_late_in_applying_does_not_confirm_old_reads() {
    let members = start_three().await;
    members[0].1.barrier(DEADLINE).await.unwrap();
    let leader = members[0].1.status().leader.unwrap();
    let (led, followers): (Vec<_>, Vec<_>) = members
        .iter()
        .map(|(_, member)| member.clone())
        .partition(|member| member.member_id() == leader);
    let (held, is_held) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let reader = led[0].clone();
    let reading = std::thread::spawn(move || {
        reader.read(|_| {
            held.send(()).unwrap();
            released.recv().unwrap();
        });
    });
    is_held.recv().unwrap();
    let pending = followers[0].submit(create("orders")).unwrap();
    let begun = Instant::now();
    while topics(&followers[0]).is_empty() {
        assert!(begun.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let early = led[0].barrier(Duration::from_millis(300)).await;
    release.send(()).unwrap();
    reading.join().unwrap();
    assert!(matches!(early, Err(Error::NoQuorum)));
    for member in &followers {
        member.barrier(DEADLINE).await.unwrap();
        assert_eq!(topics(member), ["orders"]);
    }
    led[0].barrier(DEADLINE).await.unwrap();
    assert_eq!(topics(&led[0]), ["orders"]);
    pending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_keeps_what_it_was_told() {
    let place = Place {
        name: "only".into(),
        folder: tempfile::tempdir().unwrap(),
        address: TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string(),
        forming: Forming::Alone,
        wall_clock: NOON,
    };
    let first = place.start().await;
    first.write(create("orders"), DEADLINE).await.unwrap();
    let session = first.new_session();
    first.shutdown().await;
    drop(first);
    let second = place.start().await;
    second.barrier(DEADLINE).await.unwrap();
    assert_eq!(topics(&second), ["orders"]);
    assert!(second.new_session() > session);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_minutes_apart_show_the_same_time() {
    const MINUTE: u64 = 60_000;
    let mut places = three_places();
    for (number, (place, _)) in (0..).zip(&mut places) {
        place.wall_clock = NOON + number * 10 * MINUTE;
    }
    let mut members = start_all(places).await;
    let begun = Instant::now();
    for (_, member) in &members {
        member.barrier(DEADLINE).await.unwrap();
    }
    let first = members[0].1.now();
    let agree = |now: u64| {
        let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap();
        assert!(
            now.abs_diff(first) <= elapsed + 1_000,
            "{first}, then {now}"
        );
    };
    for (_, member) in &members {
        agree(member.now());
    }
    // Whoever leads next goes on from there, and so does one that starts with another clock.
    let leader = members[0].1.status().leader.unwrap();
    let led = members
        .iter()
        .position(|(_, member)| member.member_id() == leader);
    let (mut place, stopped) = members.remove(led.unwrap());
    stopped.shutdown().await;
    drop(stopped);
    members[0].1.barrier(DEADLINE).await.unwrap();
    agree(members[0].1.now());
    place.wall_clock = NOON - 10 * MINUTE;
    let back = place.start().await;
    back.barrier(DEADLINE).await.unwrap();
    agree(back.now());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_quorum_is_bounded() {
    let mut members = start_three().await;
    for _ in 0..2 {
        let (_, stopped) = members.pop().unwrap();
        stopped.shutdown().await;
    }
    let alone = &members[0].1;
    let megabyte = create(&"x".repeat(1024 * 1024));
    let mut waiting = 0;
    while alone.submit(megabyte.clone()).is_ok() {
        waiting += 1;
        assert!(waiting < 200, "there is no bound");
    }
    let full = alone.submit(megabyte).unwrap_err();
    assert!(matches!(full, Error::QueueFull), "{full}");
    let ended = Event::Detach {
        session: alone.new_session(),
    };
    alone.submit(ended).unwrap();
    assert!(alone.status().pending_events > 60);
}
