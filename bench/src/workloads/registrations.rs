//! Sessions that each register one new channel after the other, as nsqd does: the next command
//! goes out when the last one was answered. etcd puts keys instead.

use crate::clients::v1::{Said, Session};
use crate::error::Result;
use crate::load::{self, Done, Worker};
use crate::stage::Stage;
use crate::targets::Kind;
use crate::workloads::keys::{Putter, clients};

/// Where the sessions are.
#[derive(Debug, Clone, Copy)]
enum At {
    Leader,
    Follower,
    All,
}

const CASES: [(&str, usize, At); 4] = [
    ("register-1-leader", 1, At::Leader),
    ("register-1-follower", 1, At::Follower),
    ("register-64", 64, At::All),
    ("register-512", 512, At::All),
];

pub(super) fn workloads() -> Vec<&'static str> {
    CASES.map(|(workload, _, _)| workload).to_vec()
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<()> {
    for (workload, sessions, at) in CASES {
        // A lone member has no follower.
        let lone = stage.target.spread().len() == 1;
        if !stage.wants(workload) || (lone && matches!(at, At::Follower)) {
            continue;
        }
        let first = match at {
            At::Leader => stage.target.leader().await?,
            At::Follower => stage.target.follower().await?,
            At::All => 0,
        };
        let measured = match stage.target.kind {
            Kind::Etcd => put(stage, workload, sessions, first).await?,
            Kind::Raftlookupd | Kind::Nsqlookupd => {
                register(stage, workload, sessions, first).await?
            }
        };
        stage.note_load(workload, measured);
    }
    Ok(())
}

async fn register(
    stage: &Stage<'_>,
    workload: &str,
    sessions: usize,
    first: usize,
) -> Result<load::Measured> {
    let mut workers = Vec::with_capacity(sessions);
    for number in 0..sessions {
        let name = format!("{workload}-{number}");
        let address = stage.target.member_for(first + number).tcp;
        workers.push(Registering::new(Session::open(address, &name).await?, name));
    }
    Ok(load::run(workers, stage.load()).await?.1)
}

async fn put(
    stage: &Stage<'_>,
    workload: &str,
    sessions: usize,
    first: usize,
) -> Result<load::Measured> {
    let clients = clients(&stage.target, sessions, first).await?;
    let workers = clients
        .into_iter()
        .enumerate()
        .map(|(number, client)| Putter {
            client,
            name: format!("{workload}-{number}"),
            next: 0,
        });
    Ok(load::run(workers.collect(), stage.load()).await?.1)
}

/// Registers a new topic with a channel each time.
#[derive(Debug)]
pub(super) struct Registering {
    session: Session,
    name: String,
    next: usize,
}

impl Registering {
    pub(super) fn new(session: Session, name: String) -> Self {
        let next = 0;
        Registering {
            session,
            name,
            next,
        }
    }
}

impl Worker for Registering {
    async fn operate(&mut self) -> Result<Done> {
        let (name, number) = (&self.name, self.next);
        self.next += 1;
        let line = format!("REGISTER {name}-{number:06} channel");
        self.session.command(&line).await.map(Done::from)
    }
}

impl From<Said> for Done {
    fn from(said: Said) -> Self {
        match said {
            Said::Ok => Done::Ok,
            Said::Unavailable => Done::Refused,
        }
    }
}
