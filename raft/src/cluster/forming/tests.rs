//! One member forms or joins a cluster; what the others answer is made up.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::duplex;

use super::*;
use crate::peer::connection::{Connecting, Stream};
use crate::peer::handshake::{Introduction, Me, Party, Refusal, Sender};
use crate::peer::lineage::Known;
use crate::peer::message::{Reply, Request, Response};
use crate::peer::seats::Seats;
use crate::peer::server::{Server, Service};

const CLUSTER: u128 = 7;
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Another member: what it answers to Hello and to Join.
struct Other {
    me: Me,
    hello: Mutex<HelloAnswer>,
    join: Reply<JoinAnswer>,
}

impl Service for Other {
    fn introduce(&self) -> Party {
        self.me.party()
    }

    async fn admit(&self, introduction: &Introduction) -> std::result::Result<Sender, Refusal> {
        self.me.admit(introduction, |_| None)
    }

    fn known(&self, _: &Introduction) -> Option<Known> {
        None
    }

    fn is_current(&self, _: Sender) -> bool {
        true
    }

    async fn answer(&self, _: Sender, request: Request) -> Response {
        match request {
            Request::Hello(_) => Response::Hello(self.hello.lock().unwrap().clone()),
            Request::Join(_) => match &self.join {
                Ok(answer) => Response::Join(answer.clone()),
                Err(declined) => Response::Declined(declined.clone()),
            },
            other => panic!("not asked while forming: {other:?}"),
        }
    }
}

fn address(name: &str) -> String {
    format!("{name}:4162")
}

fn instance(name: &str) -> u128 {
    u128::from(name.as_bytes()[0])
}

fn hello(name: &str) -> Hello {
    Hello {
        name: name.into(),
        instance: instance(name),
        initial: ["a", "b", "c"]
            .map(|name| (name.to_string(), address(name)))
            .into(),
    }
}

fn fresh(name: &str) -> HelloAnswer {
    HelloAnswer {
        me: hello(name),
        belongs_to: None,
        votes: false,
        formed: None,
    }
}

fn node(name: &str) -> PeerNode {
    PeerNode {
        name: name.into(),
        address: address(name),
        instance: instance(name),
    }
}

/// The answer of a member of a cluster that c leads, whose a has this instance.
fn formed(name: &str, instance_of_a: u128) -> HelloAnswer {
    let a = PeerNode {
        instance: instance_of_a,
        ..node("a")
    };
    HelloAnswer {
        me: hello(name),
        belongs_to: Some(CLUSTER),
        votes: false,
        formed: Some(FormedCluster {
            cluster: CLUSTER,
            members: vec![(1, a), (2, node("b")), (3, node("c"))],
            leader: Some(3),
        }),
    }
}

/// Members b and c (or whoever has these names' addresses), as a reaches them.
struct World(BTreeMap<String, Arc<Server<Other>>>);

impl World {
    fn new(answers: [HelloAnswer; 2], join: &Reply<JoinAnswer>) -> World {
        let others = ["b", "c"].into_iter().zip(answers).map(|(name, answer)| {
            let other = Other {
                me: Me::new(&answer.me.name, answer.me.instance).unwrap(),
                hello: Mutex::new(answer),
                join: join.clone(),
            };
            (address(name), Server::new(other))
        });
        World(others.collect())
    }

    fn of(answers: [HelloAnswer; 2]) -> World {
        World::new(answers, &Err(Declined::NotLeader))
    }

    fn set(&self, name: &str, answer: HelloAnswer) {
        *self.0[&address(name)].service().hello.lock().unwrap() = answer;
    }

    fn client(&self, me: &Hello) -> PeerClient {
        let servers = self.0.clone();
        let seats = Seats::new(8);
        let connector = move |address: String| {
            let (ours, theirs) = duplex(4096);
            let (server, seat) = (servers[&address].clone(), seats.enter());
            tokio::spawn(async move { server.serve_connection(theirs, seat, REMOTE).await });
            Box::pin(std::future::ready(Ok(Box::new(ours) as Box<dyn Stream>))) as Connecting
        };
        let me = Me::new(&me.name, me.instance).unwrap();
        PeerClient::over(Arc::new(me), Arc::new(connector))
    }

    /// What comes of it within a minute, as which member.
    async fn form(&self, name: &str) -> Option<Result<OwnMembership>> {
        let me = hello(name);
        let peers = self.client(&me);
        let address = address(name);
        let formed = with_others(&me, &address, &peers);
        tokio::time::timeout(Duration::from_secs(60), formed)
            .await
            .ok()
    }

    async fn refusal(&self) -> String {
        match self.form("a").await {
            Some(Err(Error::Membership(reason))) => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_by_name_forms_a_cluster_of_fresh_members() {
    let world = World::of([fresh("b"), fresh("c")]);
    let own = world.form("a").await.unwrap().unwrap();
    let founding = own.founding.unwrap();
    let expected = [(1, node("a")), (2, node("b")), (3, node("c"))];
    assert_eq!((own.id, founding), (1, expected.into()));
}

#[tokio::test(start_paused = true)]
async fn nobody_forms_a_cluster_beside_one_that_is_loading() {
    let mut loading = fresh("b");
    loading.belongs_to = Some(CLUSTER);
    let joined = JoinAnswer {
        cluster: CLUSTER,
        id: 4,
    };
    let world = World::new([loading, fresh("c")], &Ok(joined));
    assert!(world.form("a").await.is_none());
    // It lost its disk: the cluster knows another instance.
    world.set("b", formed("b", 99));
    let own = world.form("a").await.unwrap().unwrap();
    assert_eq!((own.cluster, own.id), (CLUSTER, 4));
    assert_eq!(own.founding, None);
}

#[tokio::test(start_paused = true)]
async fn a_member_finds_its_place_in_the_cluster_that_was_formed_with_it() {
    let world = World::of([fresh("b"), formed("c", instance("a"))]);
    let own = world.form("a").await.unwrap().unwrap();
    assert_eq!((own.cluster, own.id), (CLUSTER, 1));
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_living_member_is_refused() {
    let taken = Declined::NameTaken {
        name: "a".into(),
        address: "elsewhere:4162".into(),
    };
    let world = World::new([fresh("b"), formed("c", 99)], &Err(taken));
    assert!(world.refusal().await.contains("alive at elsewhere:4162"));
}

#[tokio::test(start_paused = true)]
async fn members_that_were_started_differently_are_refused() {
    let mut other_list = fresh("b");
    other_list.me.initial.pop();
    let reason = World::of([other_list, fresh("c")]).refusal().await;
    assert!(
        reason.contains("b was started with another list"),
        "{reason}"
    );

    let reason = World::of([fresh("d"), fresh("c")]).refusal().await;
    assert!(
        reason.contains("the address of b leads to a member called d"),
        "{reason}"
    );

    let mut moved = formed("c", 99);
    if let Some(formed) = &mut moved.formed {
        formed.members[1].1.address = "elsewhere:4162".into();
    }
    let reason = World::of([fresh("b"), moved]).refusal().await;
    assert!(
        reason.contains("b is at b:4162 in our list, but at elsewhere:4162"),
        "{reason}"
    );
}
