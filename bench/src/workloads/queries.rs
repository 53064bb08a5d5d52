//! What consumers and operators ask, on keep-alive connections to one member.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::clients::http::{Connection, get};
use crate::error::{Error, Result};
use crate::load::{self, Done, Worker};
use crate::nsqds::{Nsqds, lookup_path, topic};
use crate::size::Size;
use crate::stage::Stage;
use crate::workloads::keys::{Getter, Putter, clients};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    OneTopic,
    EveryTopic,
    Nodes,
    Topics,
    Channels,
}

/// Name, connections, what is asked for, and how it is asked.
const CASES: [(&str, usize, Ask, &str); 11] = [
    ("lookup-1", 1, Ask::OneTopic, ""),
    ("lookup-8", 8, Ask::OneTopic, ""),
    ("lookup-64", 64, Ask::OneTopic, ""),
    ("lookup-1-stale", 1, Ask::OneTopic, STALE),
    ("lookup-8-stale", 8, Ask::OneTopic, STALE),
    ("lookup-64-stale", 64, Ask::OneTopic, STALE),
    ("lookup-every-8", 8, Ask::EveryTopic, ""),
    ("lookup-every-8-stale", 8, Ask::EveryTopic, STALE),
    ("nodes-8", 8, Ask::Nodes, ""),
    ("topics-8", 8, Ask::Topics, ""),
    ("channels-8", 8, Ask::Channels, ""),
];

/// Only raftlookupd knows the difference.
const STALE: &str = "&consistency=stale";

pub(super) fn workloads() -> [&'static str; CASES.len()] {
    CASES.map(|(workload, ..)| workload)
}

pub(super) async fn run(stage: &mut Stage<'_>, size: Size, nsqds: &mut Nsqds) -> Result<()> {
    // Two of three members follow.
    let follower = stage.target.follower().await?;
    let address = stage.target.members[follower].http;
    for (workload, connections, ask, consistency) in CASES {
        let meaningless = consistency == STALE && !stage.target.kind.is_replicated();
        if !stage.wants(workload) || meaningless {
            continue;
        }
        nsqds.ping().await?;
        let requests = requests(ask, consistency, size);
        let mut workers = Vec::new();
        for number in 0..connections {
            workers.push(Asking {
                connection: Connection::open(address).await?,
                requests: requests.clone(),
                // Not all for the same topic at the same time.
                next: number * requests.len() / connections,
                stale: consistency == STALE,
            });
        }
        let (_, measured) = load::run(workers, stage.load()).await?;
        stage.note_load(workload, measured);
    }
    Ok(())
}

/// The same with the one thing that etcd has to ask for: a key.
pub(super) async fn run_etcd(stage: &mut Stage<'_>) -> Result<()> {
    let follower = stage.target.follower().await?;
    for (workload, connections, ask, consistency) in CASES {
        if !stage.wants(workload) || ask != Ask::OneTopic || consistency == STALE {
            continue;
        }
        let mut putter = Putter {
            client: clients(&stage.target, 1, follower).await?.remove(0),
            name: "topic".into(),
            next: 0,
        };
        putter.operate().await?;
        let mut workers = Vec::new();
        for _ in 0..connections {
            workers.push(Getter {
                client: clients(&stage.target, 1, follower).await?.remove(0),
                key: putter.key(0),
            });
        }
        let (_, measured) = load::run(workers, stage.load()).await?;
        stage.note_load(workload, measured);
    }
    Ok(())
}

/// The requests that are sent one after the other, over and over, made before it begins.
fn requests(ask: Ask, consistency: &str, size: Size) -> Arc<[Box<[u8]>]> {
    let topics = match ask {
        Ask::EveryTopic | Ask::Channels => size.topics(),
        Ask::OneTopic | Ask::Nodes | Ask::Topics => 1,
    };
    let path = |number| match ask {
        Ask::OneTopic | Ask::EveryTopic => lookup_path(&topic(number)) + consistency,
        Ask::Nodes => "/nodes".into(),
        Ask::Topics => "/topics".into(),
        Ask::Channels => format!("/channels?topic={}", topic(number)),
    };
    (0..topics)
        .map(|number| get(&path(number)).into())
        .collect()
}

/// Sends one request after the other.
#[derive(Debug)]
pub(super) struct Asking {
    connection: Connection,
    requests: Arc<[Box<[u8]>]>,
    next: usize,
    /// Whether an answer that may be stale is as good.
    stale: bool,
}

impl Asking {
    /// Asks a member for one topic, over and over. Any answer will do, marked stale or not.
    pub(super) async fn one_topic(address: SocketAddr, topic: &str, stale: bool) -> Result<Self> {
        let consistency = if stale { STALE } else { "" };
        let request = get(&(lookup_path(topic) + consistency));
        Ok(Asking {
            connection: Connection::open(address).await?,
            requests: Arc::new([request.into()]),
            next: 0,
            stale: true,
        })
    }
}

impl Worker for Asking {
    async fn operate(&mut self) -> Result<Done> {
        let request = &self.requests[self.next];
        self.next = (self.next + 1) % self.requests.len();
        let response = self.connection.send(request).await?;
        match (response.status(), response.body_length()) {
            (200, 1..) if response.is_stale() && !self.stale => Ok(Done::Refused),
            (200, 1..) => Ok(Done::Ok),
            (503, _) => Ok(Done::Refused),
            (status, length) => Err(Error::Answer(format!(
                "status {status} with {length} bytes to {}",
                String::from_utf8_lossy(request)
                    .lines()
                    .next()
                    .unwrap_or_default()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_made_for_what_is_registered() {
        let text = |ask, consistency, number: usize| {
            let requests = requests(ask, consistency, Size::Small);
            let text = String::from_utf8(requests[number].to_vec()).unwrap();
            (requests.len(), text.lines().next().unwrap().to_string())
        };
        for (ask, consistency, number, expected) in [
            (
                Ask::OneTopic,
                "",
                0,
                (1, "GET /lookup?topic=topic-00000 HTTP/1.1"),
            ),
            (
                Ask::EveryTopic,
                STALE,
                9,
                (
                    10,
                    "GET /lookup?topic=topic-00009&consistency=stale HTTP/1.1",
                ),
            ),
            (Ask::Nodes, "", 0, (1, "GET /nodes HTTP/1.1")),
            (
                Ask::Channels,
                "",
                1,
                (10, "GET /channels?topic=topic-00001 HTTP/1.1"),
            ),
        ] {
            let expected = (expected.0, expected.1.to_string());
            assert_eq!(text(ask, consistency, number), expected);
        }
    }
}
