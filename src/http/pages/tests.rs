//! Compares answers written page by page with those of `body`.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use http_body_util::BodyExt;
use raftlookupd_raft::storage::event::{Event, MemberBatch, Proposal};
use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::http::body;
use crate::http::connection::client::Client;
use crate::http::error::HttpError;
use crate::http::long_answers::{LongAnswers, Scope};

const WATCHDOG: Duration = Duration::from_secs(60);

const LIFETIMES: Lifetimes = Lifetimes {
    now: 1_000,
    tombstone: 500,
    away: 500,
};

/// Names that sort differently in front of a colon.
const TOPICS: [&str; 6] = ["a", "a-b", "a.b", "a#ephemeral", "ab", "b"];

struct Fixed(Arc<RegistrationDb>);

impl Source for Fixed {
    fn read<T>(&self, query: impl FnOnce(&RegistrationDb) -> T) -> T {
        query(&self.0)
    }
}

/// A registry that changes between any two reads.
struct Changing {
    db: RefCell<RegistrationDb>,
    random: RefCell<StdRng>,
    sequence: Cell<u64>,
    /// The producers that each topic has ever listed.
    listed: RefCell<BTreeSet<(String, String)>>,
}

impl Changing {
    fn new(seed: u64) -> Self {
        let changing = Changing {
            db: RefCell::default(),
            random: RefCell::new(StdRng::seed_from_u64(seed)),
            sequence: Cell::new(0),
            listed: RefCell::default(),
        };
        for _ in 0..5 {
            changing.change();
        }
        changing
    }

    fn change(&self) {
        let random = &mut *self.random.borrow_mut();
        let sequence = self.sequence.get() + 1;
        self.sequence.set(sequence);
        let mut events = Vec::new();
        for _ in 0..random.random_range(1..4) {
            let producer = producer(random.random_range(0..5));
            if random.random_bool(0.4) {
                events.push(Event::Detach {
                    producer,
                    at: sequence,
                });
                continue;
            }
            attach(random, &mut events, producer, 1);
        }
        if random.random_bool(0.3) {
            let topic = TOPICS[random.random_range(0..TOPICS.len())].into();
            events.push(Event::DeleteTopic { topic });
        }
        let mut db = self.db.borrow_mut();
        apply(&mut db, 1, sequence, events);
        for topic in TOPICS {
            let listed = db.producers(topic, LIFETIMES).into_iter().flatten();
            let listed = listed.map(|view| (topic.into(), view.id.broadcast_address.clone()));
            self.listed.borrow_mut().extend(listed);
        }
    }
}

impl Source for Changing {
    fn read<T>(&self, query: impl FnOnce(&RegistrationDb) -> T) -> T {
        let answer = query(&self.db.borrow());
        self.change();
        answer
    }
}

fn producer(host: usize) -> ProducerId {
    ProducerId {
        broadcast_address: format!("h{host}"),
        tcp_port: 4150,
    }
}

fn apply(db: &mut RegistrationDb, member: u64, sequence: u64, events: Vec<Event>) {
    let batch = MemberBatch {
        member,
        incarnation: 1,
        sequence,
        at: 900,
        events,
    };
    db.apply(&Proposal {
        batches: vec![batch],
        ..Proposal::default()
    })
    .unwrap();
}

/// A producer with a few claims.
fn attach(random: &mut StdRng, events: &mut Vec<Event>, producer: ProducerId, member: u64) {
    let host = producer.broadcast_address.clone();
    events.push(Event::Attach {
        producer: producer.clone(),
        remote_address: format!("{host}:{member}"),
        info: PeerInfo {
            hostname: format!("\"{host}\""),
            http_port: 4151,
            version: "1.3.0".into(),
            ..PeerInfo::default()
        },
        at: random.random_range(0..9),
    });
    for _ in 0..random.random_range(0..8) {
        let channel = format!("c{}", random.random_range(0..4));
        events.push(Event::Claim {
            producer: producer.clone(),
            topic: TOPICS[random.random_range(0..TOPICS.len())].into(),
            channel: random.random_bool(0.7).then_some(channel),
        });
    }
    events.push(Event::SetActive {
        producer,
        active: random.random_bool(0.8),
    });
}

fn random_registry(seed: u64) -> RegistrationDb {
    let mut random = StdRng::seed_from_u64(seed);
    let mut db = RegistrationDb::new();
    for member in 1..=3 {
        let mut events = Vec::new();
        for host in 0..random.random_range(0..5) {
            attach(&mut random, &mut events, producer(host), member);
        }
        let topic = TOPICS[random.random_range(0..TOPICS.len())].to_string();
        let node = "h1:4151".to_string();
        events.push(Event::Tombstone {
            topic,
            node,
            at: 900,
        });
        apply(&mut db, member, 1, events);
    }
    db
}

async fn write<S: Send + 'static>(
    source: S,
    build: impl FnOnce(&S, &mut Page) -> Result<(), HttpError> + Send + 'static,
) -> (S, Result<String, HttpError>) {
    let (client, _server, _peer) = Client::connected().await;
    let answers = LongAnswers::default();
    let built = answers.build(Scope::Registry, &client, move |page| {
        let built = build(&source, page);
        Ok::<_, HttpError>((source, built))
    });
    let built = tokio::time::timeout(WATCHDOG, built).await.unwrap();
    let ((source, built), body) = built.unwrap();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (source, built.map(|()| text))
}

async fn paged(
    db: &Arc<RegistrationDb>,
    build: impl FnOnce(&Fixed, &mut Page) -> Result<(), HttpError> + Send + 'static,
) -> String {
    write(Fixed(db.clone()), build).await.1.unwrap()
}

fn at_once(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).unwrap()
}

#[tokio::test]
async fn pages_make_the_same_answer() {
    for seed in 0..60 {
        let db = Arc::new(random_registry(seed));
        for size in [1, 2, 100] {
            let sizes = Sizes {
                names: size,
                producers: size,
            };
            let long = paged(&db, move |db, page| Ok(topics(db, sizes, page)?)).await;
            assert_eq!(long, at_once(body::topics(&db)), "seed {seed}");
            let long = paged(&db, move |db, page| Ok(nodes(db, sizes, LIFETIMES, page)?)).await;
            assert_eq!(long, at_once(body::nodes(&db, LIFETIMES)), "seed {seed}");
            let long = paged(&db, move |db, page| Ok(debug(db, sizes, page)?)).await;
            assert_eq!(long, at_once(body::debug(&db)), "seed {seed}");
            for topic in TOPICS {
                let long = paged(&db, move |db, page| Ok(channels(db, sizes, topic, page)?)).await;
                assert_eq!(long, at_once(body::channels(&db, topic)), "seed {seed}");
                let Some(found) = body::lookup(&db, topic, LIFETIMES) else {
                    continue;
                };
                let long = paged(&db, move |db, page| {
                    lookup(db, sizes, topic, LIFETIMES, page)?.ok_or(HttpError::TopicNotFound)
                });
                assert_eq!(long.await, at_once(found), "seed {seed}, {topic}");
            }
        }
    }
}

/// Whatever changes in between, an answer is well formed, and says nothing that was never so.
#[tokio::test]
async fn changes_between_pages_do_no_harm() {
    let sizes = Sizes {
        names: 1,
        producers: 1,
    };
    for seed in 0..60 {
        let topic = TOPICS[seed as usize % TOPICS.len()];
        let (source, answer) = write(Changing::new(seed), move |db, page| {
            lookup(db, sizes, topic, LIFETIMES, page)?.ok_or(HttpError::TopicNotFound)
        })
        .await;
        if let Ok(answer) = answer {
            let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
            for producer in json["producers"].as_array().unwrap() {
                let host = producer["broadcast_address"].as_str().unwrap();
                let listed = source.listed.borrow();
                let fact = (topic.to_string(), host.to_string());
                assert!(listed.contains(&fact), "seed {seed}, {topic}, {host}");
            }
        }
        let (source, answer) = write(Changing::new(seed), move |db, page| {
            Ok(nodes(db, sizes, LIFETIMES, page)?)
        })
        .await;
        let json: serde_json::Value = serde_json::from_str(&answer.unwrap()).unwrap();
        for node in json["producers"].as_array().unwrap() {
            let (tombstones, topics) = (&node["tombstones"], &node["topics"]);
            let topics = topics.as_array().unwrap();
            assert_eq!(tombstones.as_array().unwrap().len(), topics.len());
            for topic in topics {
                let host = node["broadcast_address"].as_str().unwrap();
                let fact = (topic.as_str().unwrap().to_string(), host.to_string());
                assert!(
                    source.listed.borrow().contains(&fact),
                    "seed {seed}, {fact:?}"
                );
            }
        }
        let (_, answer) = write(Changing::new(seed), move |db, page| {
            Ok(debug(db, sizes, page)?)
        })
        .await;
        let _: serde_json::Value = serde_json::from_str(&answer.unwrap()).unwrap();
    }
}
