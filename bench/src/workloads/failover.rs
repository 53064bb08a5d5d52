//! The leader is killed while clients write and read at the others: how long nothing succeeds.

use std::time::{Duration, Instant};

use crate::clients::v1::Session;
use crate::error::Result;
use crate::figures::Unit;
use crate::load::{self, Done, Worker};
use crate::nsqds::topic;
use crate::stage::Stage;
use crate::targets::Kind;
use crate::workloads::keys::{Getter, Putter, clients};
use crate::workloads::queries::Asking;
use crate::workloads::registrations::Registering;

const WRITES: &str = "failover-write-gap";
const READS: &str = "failover-lookup-gap";
/// With `consistency=stale`.
const STALE_READS: &str = "failover-stale-lookup-gap";

pub(super) const WORKLOADS: &[&str] = &[WRITES, READS, STALE_READS];

/// How long all is well before.
const BEFORE: Duration = Duration::from_secs(1);

/// How long it goes on afterwards: longer than any election.
const AFTER: Duration = Duration::from_secs(8);

/// Between two operations of a client, so that the clients do not hold up the election.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<()> {
    let leader = stage.target.leader().await?;
    let survivors = (0..stage.target.members.len()).filter(|member| *member != leader);
    let mut watches = Vec::new();
    for member in survivors {
        watches.extend(watch(stage, member).await?);
    }
    if watches.is_empty() {
        return Ok(());
    }
    let watching = tokio::spawn(load::together(watches));
    tokio::time::sleep(BEFORE).await;
    stage.target.kill(leader)?;
    let gaps = watching.await;
    let gaps = gaps.map_err(|error| crate::error::Error::io("a task")(error.into()))??;
    for name in WORKLOADS {
        let longest = gaps.iter().filter(|(workload, _)| workload == name);
        if let Some(longest) = longest.map(|(_, gap)| *gap).max() {
            stage.note(name, Unit::Millis, longest.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

type Gap = (&'static str, Duration);
type Watching = std::pin::Pin<Box<dyn Future<Output = Result<Gap>> + Send>>;

/// Clients of one member that note the longest time without a success.
async fn watch(stage: &Stage<'_>, member: usize) -> Result<Vec<Watching>> {
    let target = &stage.target;
    let (tcp, http) = (target.members[member].tcp, target.members[member].http);
    let name = format!("failover-{member}");
    if target.kind == Kind::Etcd {
        let client = clients(target, 1, member).await?.remove(0).impatient();
        let mut putter = Putter {
            client: client.clone(),
            name,
            next: 0,
        };
        putter.operate().await?;
        let key = putter.key(0);
        let getter = Getter { client, key };
        return Ok(vec![
            Box::pin(longest_gap(WRITES, putter)),
            Box::pin(longest_gap(READS, getter)),
        ]);
    }
    let mut session = Session::open(tcp, &name).await?;
    let topic = topic(member);
    session.command(&format!("REGISTER {topic}")).await?;
    let reading = Asking::one_topic(http, &topic, false).await?;
    let reading_stale = Asking::one_topic(http, &topic, true).await?;
    Ok(vec![
        Box::pin(longest_gap(WRITES, Registering::new(session, name))),
        Box::pin(longest_gap(READS, reading)),
        Box::pin(longest_gap(STALE_READS, reading_stale)),
    ])
}

/// Works until well after the election; an error is no success.
async fn longest_gap(workload: &'static str, mut worker: impl Worker) -> Result<Gap> {
    let began = Instant::now();
    let mut last = began;
    let mut longest = Duration::ZERO;
    let mut failed = None;
    while began.elapsed() < BEFORE + AFTER {
        match worker.operate().await {
            Ok(Done::Ok) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            Ok(Done::Refused) => {}
            Err(error) => failed = Some(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
    // A client that never succeeded again has an endless gap: its error says more.
    match failed {
        Some(error) if last.elapsed() > AFTER / 2 => Err(error),
        _ => Ok((workload, longest)),
    }
}
