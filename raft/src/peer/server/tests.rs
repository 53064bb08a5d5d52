//! Clients and servers over connections in memory, in virtual time.

use std::sync::atomic::{AtomicUsize, Ordering};

use raftlookupd_storage::event::{BatchResult, MemberBatch};
use raftlookupd_storage::registration::MemberId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Semaphore;

use super::*;
use crate::peer::client::{CallError, PeerClient};
use crate::peer::connection::Stream;
use crate::peer::handshake::{FORMAT, LONGEST, Me, Place};
use crate::peer::message::{
    Call, Class, Declined, Following, Hello, HelloAnswer, KeepAlive, LeaderLeaves, Promote,
    ReadIndex, SubmitBatch,
};
use crate::types::{LeaderId, PeerNode};

const CLUSTER: u128 = 7;
const REMOTE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
const SOON: Duration = Duration::from_millis(100);
const GUESTS: usize = 3;

fn member(name: &str, id: MemberId) -> Arc<Me> {
    let me = Me::new(name, instance(id)).unwrap();
    me.take_place(Place {
        cluster: CLUSTER,
        id,
    });
    Arc::new(me)
}

fn instance(id: MemberId) -> u128 {
    u128::from(id) * 10
}

/// Answers at once, but for a ReadIndex, which waits to be released.
struct Answers {
    me: Arc<Me>,
    released: Semaphore,
    answered: AtomicUsize,
}

impl Service for Answers {
    fn introduce(&self) -> Party {
        self.me.party()
    }

    async fn admit(&self, introduction: &Introduction) -> Result<Sender, Refusal> {
        self.me
            .admit(introduction, |id| (id <= 3).then_some(instance(id)))
    }

    fn known(&self, _: &Introduction) -> Option<Known> {
        None
    }

    fn is_current(&self, _: Sender) -> bool {
        true
    }

    async fn answer(&self, from: Sender, request: Request) -> Response {
        if let Request::ReadIndex(_) = request {
            self.released.acquire().await.unwrap().forget();
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        match (from, request) {
            (Sender::Member { .. }, Request::ReadIndex(_)) => Response::ReadIndex(None),
            (Sender::Member { .. }, Request::Following(_)) => Response::Following(true),
            (Sender::Member { .. }, Request::Promote(_)) => Response::Promote(()),
            (Sender::Member { .. }, Request::Submit(_)) => {
                Response::Submit(BatchResult::Superseded)
            }
            // No answer to what was asked.
            (Sender::Member { .. }, Request::KeepAlive(_)) => Response::LeaderLeaves(()),
            (_, Request::Hello(me)) => Response::Hello(HelloAnswer {
                me,
                belongs_to: Some(CLUSTER),
                votes: false,
                formed: None,
            }),
            _ => Response::Declined(Declined::NotLeader),
        }
    }
}

/// Member b, and what has been dialled to it.
struct World {
    server: Arc<Server<Answers>>,
    seats: Arc<Seats>,
    dialled: Arc<AtomicUsize>,
}

impl World {
    fn new() -> World {
        let answers = Answers {
            me: member("b", 2),
            released: Semaphore::new(0),
            answered: AtomicUsize::new(0),
        };
        World {
            server: Server::new(answers),
            seats: Seats::new(GUESTS),
            dialled: Arc::default(),
        }
    }

    /// A connection to b, and how it ends.
    fn connect(&self) -> (DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
        connect(&self.server, &self.seats)
    }

    fn client(&self, me: Arc<Me>) -> PeerClient {
        let (server, seats) = (self.server.clone(), self.seats.clone());
        let dialled = self.dialled.clone();
        let connector = move |_| {
            dialled.fetch_add(1, Ordering::Relaxed);
            let (stream, _) = connect(&server, &seats);
            let connected = std::future::ready(Ok(Box::new(stream) as Box<dyn Stream>));
            Box::pin(connected) as crate::peer::connection::Connecting
        };
        PeerClient::over(me, Arc::new(connector))
    }

    fn dialled(&self) -> usize {
        self.dialled.load(Ordering::Relaxed)
    }
}

fn connect(
    server: &Arc<Server<Answers>>,
    seats: &Arc<Seats>,
) -> (DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
    let (ours, theirs) = duplex(64 * 1024);
    let (server, seat) = (server.clone(), seats.enter());
    let ended = tokio::spawn(async move { server.serve_connection(theirs, seat, REMOTE).await });
    (ours, ended)
}

fn node(name: &str, id: MemberId) -> PeerNode {
    PeerNode {
        name: name.into(),
        address: format!("{name}:4162"),
        instance: instance(id),
    }
}

async fn call<Q: Call>(client: &PeerClient, request: Q) -> Result<Q::Answer, CallError> {
    client.call(2, &node("b", 2), request, SOON).await
}

const LEADER: LeaderId = LeaderId {
    term: 1,
    node_id: 2,
};

const FOLLOWING: Following = Following { leader: LEADER };

fn batch(bytes: usize) -> SubmitBatch {
    let event = raftlookupd_storage::event::Event::CreateTopic {
        topic: "t".repeat(bytes),
    };
    SubmitBatch(MemberBatch {
        member: 1,
        incarnation: 1,
        sequence: 1,
        at: 1,
        events: vec![event],
    })
}

#[tokio::test(start_paused = true)]
async fn one_connection_of_each_class_serves_call_after_call() {
    let world = World::new();
    let client = world.client(member("a", 1));
    for _ in 0..10 {
        assert!(call(&client, FOLLOWING).await.unwrap());
        let result = call(&client, batch(100_000)).await.unwrap();
        assert_eq!(result, BatchResult::Superseded);
    }
    assert_eq!(world.dialled(), 2);
    assert!(client.contacts()[&2].answered.is_some());
    let declined = call(&client, LeaderLeaves { heir: None })
        .await
        .unwrap_err();
    assert!(matches!(declined, CallError::Declined(Declined::NotLeader)));
    let wrong = call(&client, KeepAlive).await.unwrap_err();
    assert!(matches!(wrong, CallError::Lost(_)), "{wrong}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_names_both_sides() {
    let world = World::new();
    let stranger = Me::new("a", instance(1)).unwrap();
    stranger.take_place(Place { cluster: 8, id: 1 });
    let client = world.client(Arc::new(stranger));
    let error = call(&client, FOLLOWING).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "b does not accept the connection: they belong to different clusters"
    );
    assert_eq!(client.contacts()[&2].failures, 1);
    // Anyone may ask who is there, and nothing else.
    let hello = Hello {
        name: "a".into(),
        instance: 10,
        initial: Vec::new(),
    };
    let answer = client.ask("b:4162", hello.clone(), SOON).await.unwrap();
    assert_eq!(answer.belongs_to, Some(CLUSTER));
    let declined = client.ask("b:4162", FOLLOWING, SOON).await.unwrap_err();
    assert!(matches!(declined, CallError::Declined(_)), "{declined}");
}

#[tokio::test(start_paused = true)]
async fn another_version_is_answered_with_ours() {
    let world = World::new();
    let (mut stream, ended) = world.connect();
    stream.write_all(b"RLKP\xff\x00\x00").await.unwrap();
    let welcome: Welcome = handshake::receive(&mut stream).await.unwrap();
    assert_eq!(welcome.from.name, "b");
    assert_eq!(welcome.refused, Some(Refusal::OtherFormat { found: 255 }));
    assert_ne!(FORMAT, 255);
    ended.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_introduce_itself_is_cut_off() {
    let world = World::new();
    let begun = tokio::time::Instant::now();
    let (_silent, ended) = world.connect();
    let error = ended.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), DEADLINE.as_secs());

    let (mut garbage, ended) = world.connect();
    garbage.write_all(&[7; 10 * LONGEST]).await.unwrap();
    ended.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn strangers_do_not_keep_a_member_out() {
    let world = World::new();
    let client = world.client(member("a", 1));
    assert!(call(&client, FOLLOWING).await.unwrap());
    let idle: Vec<_> = (0..100).map(|_| world.connect()).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let open = idle.iter().filter(|(_, ended)| !ended.is_finished());
    assert_eq!(open.count(), GUESTS);
    // On the connection that it has, and on a new one.
    assert!(call(&client, FOLLOWING).await.unwrap());
    assert_eq!(world.dialled(), 1);
    assert!(call(&client, batch(1)).await.is_ok());
    assert_eq!(world.dialled(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_and_its_connection_with_it() {
    let world = World::new();
    let client = world.client(member("a", 1));
    let begun = tokio::time::Instant::now();
    let late = call(&client, ReadIndex { leader: LEADER }).await;
    assert!(matches!(late, Err(CallError::Lost(_))));
    assert_eq!(begun.elapsed().as_millis(), SOON.as_millis());
    assert!(call(&client, FOLLOWING).await.unwrap());
    assert_eq!(world.dialled(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_needed_costs_no_connection() {
    let world = World::new();
    let client = world.client(member("a", 1));
    {
        let question = std::pin::pin!(call(&client, ReadIndex { leader: LEADER }));
        tokio::time::timeout(SOON / 2, question).await.unwrap_err();
    }
    // While the answer is due another connection is used, then again the first.
    assert!(call(&client, FOLLOWING).await.unwrap());
    assert_eq!(world.dialled(), 2);
    world.server.service().released.add_permits(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let both = tokio::join!(call(&client, FOLLOWING), call(&client, FOLLOWING));
    assert!(both.0.unwrap() && both.1.unwrap());
    assert_eq!(world.dialled(), 2);
}

#[tokio::test(start_paused = true)]
async fn questions_pile_up_on_few_connections_while_their_peer_is_prompt() {
    let world = World::new();
    let client = world.client(member("a", 1));
    for _ in 0..50 {
        let question = call(&client, ReadIndex { leader: LEADER });
        let patience = Duration::from_millis(1);
        tokio::time::timeout(patience, question).await.unwrap_err();
    }
    assert_eq!(world.dialled(), 2);
    world.server.service().released.add_permits(50);
    assert!(call(&client, FOLLOWING).await.unwrap());
    assert_eq!(world.dialled(), 2);
    // One that does not answer for longer is not asked again.
    for _ in 0..4 {
        call(&client, ReadIndex { leader: LEADER })
            .await
            .unwrap_err();
    }
    assert_eq!(world.dialled(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_long_message_that_was_given_up_on_closes_its_connection() {
    let world = World::new();
    let client = world.client(member("a", 1));
    assert!(call(&client, batch(1)).await.is_ok());
    {
        // More than the connection takes at once, so it is sent in part.
        let mut half = std::pin::pin!(call(&client, batch(100_000)));
        assert!(is_pending(half.as_mut()));
    }
    assert!(call(&client, batch(1)).await.is_ok());
    assert_eq!(world.dialled(), 2);
}

fn is_pending<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.poll(&mut context).is_pending()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_replaced() {
    let world = World::new();
    let client = world.client(member("a", 1));
    assert!(call(&client, FOLLOWING).await.unwrap());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(call(&client, FOLLOWING).await.unwrap());
    assert_eq!(world.dialled(), 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(call(&client, FOLLOWING).await.unwrap());
    assert_eq!(world.dialled(), 2);

    // The server waits longer, and not indefinitely.
    let (mut stream, ended) = world.connect();
    let introduction = Introduction {
        from: member("a", 1).party(),
        to: None,
        class: Class::Small,
        known: None,
    };
    handshake::send(&mut stream, &introduction).await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = ended.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_is_replaced_within_the_call() {
    let world = World::new();
    let client = world.client(member("a", 1));
    assert!(call(&client, FOLLOWING).await.unwrap());
    // Newer connections of the same member evict it.
    let others: Vec<PeerClient> = (0..8).map(|_| world.client(member("a", 1))).collect();
    for other in &others {
        assert!(call(other, FOLLOWING).await.unwrap());
    }
    assert!(call(&client, FOLLOWING).await.unwrap());
    assert_eq!(world.dialled(), 10);
}

#[tokio::test(start_paused = true)]
async fn dialling_outlives_the_call_that_began_it() {
    let world = World::new();
    let slow = world.client(member("a", 1));
    let dialled = world.dialled.clone();
    let (server, seats) = (world.server.clone(), world.seats.clone());
    let connector = move |_| {
        dialled.fetch_add(1, Ordering::Relaxed);
        let (server, seats) = (server.clone(), seats.clone());
        Box::pin(async move {
            tokio::time::sleep(2 * SOON).await;
            Ok(Box::new(connect(&server, &seats).0) as Box<dyn Stream>)
        }) as crate::peer::connection::Connecting
    };
    drop(slow);
    let client = PeerClient::over(member("a", 1), Arc::new(connector));
    for _ in 0..2 {
        call(&client, FOLLOWING).await.unwrap_err();
    }
    assert!(call(&client, FOLLOWING).await.unwrap());
    assert_eq!(world.dialled(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_refuses_is_told_from_one_that_is_silent() {
    let me = member("a", 1);
    let connector = |_| {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        Box::pin(std::future::ready(Err(refused))) as crate::peer::connection::Connecting
    };
    let client = PeerClient::over(me.clone(), Arc::new(connector));
    for _ in 0..3 {
        let error = call(&client, FOLLOWING).await.unwrap_err();
        assert!(matches!(error, CallError::Refused), "{error}");
    }
    assert_eq!(client.contacts()[&2].failures, 3);
    let connector = |_| Box::pin(std::future::pending()) as crate::peer::connection::Connecting;
    let client = PeerClient::over(me, Arc::new(connector));
    let error = call(&client, FOLLOWING).await.unwrap_err();
    assert!(matches!(error, CallError::Lost(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_for_its_connection_ends_it() {
    let world = World::new();
    let client = world.client(member("a", 1));
    let promote = Promote {
        id: 1,
        address: "a".repeat(Class::Small.longest_frame()),
    };
    let error = call(&client, promote).await.unwrap_err();
    assert!(
        matches!(error, CallError::Lost(_)),
        "it is not even sent: {error}"
    );
    assert_eq!(world.dialled(), 0);

    let (mut stream, ended) = world.connect();
    let introduction = Introduction {
        from: member("a", 1).party(),
        to: None,
        class: Class::Small,
        known: None,
    };
    handshake::send(&mut stream, &introduction).await.unwrap();
    let _: Welcome = handshake::receive(&mut stream).await.unwrap();
    stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    stream.write_all(&[0; 4]).await.unwrap();
    let error = ended.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_when_its_caller_hangs_up() {
    let world = World::new();
    let client = world.client(member("a", 1));
    call(&client, ReadIndex { leader: LEADER })
        .await
        .unwrap_err();
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.server.service().released.add_permits(1);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.server.service().answered.load(Ordering::Relaxed), 0);
}
