//! A member with many nsqds is killed and started again, and all come back at the same time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::clients::v1::{Said, Session};
use crate::error::Result;
use crate::figures::Unit;
use crate::load;
use crate::stage::Stage;
use crate::targets::wait_for;
use crate::workloads::reconnect::note_entries;

/// From the start of the process until the last nsqd has its last answer.
const STORM: &str = "storm";
/// What that adds to the log.
const ENTRIES: &str = "storm-log-entries";

pub(super) const WORKLOADS: &[&str] = &[STORM, ENTRIES];

const NSQDS: usize = 200;
const CHANNELS: usize = 50;

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<()> {
    let member = stage.target.follower().await?;
    let address = stage.target.members[member].tcp;
    // Nobody reads the sessions' ends: they are gone when the member is.
    let sessions = load::together((0..NSQDS).map(|nsqd| connect(address, nsqd))).await?;
    let before = stage.target.log_index().await?;
    stage.target.kill(member)?;
    drop(sessions);
    let began = Instant::now();
    stage.target.restart(member)?;
    load::together((0..NSQDS).map(|nsqd| connect(address, nsqd))).await?;
    let took: Duration = began.elapsed();
    stage.note(STORM, Unit::Seconds, took.as_secs_f64());
    note_entries(stage, ENTRIES, before).await
}

/// Connects as soon as that is possible and registers everything.
async fn connect(address: SocketAddr, nsqd: usize) -> Result<Session> {
    let name = format!("storm-{nsqd}");
    let open = || async { Session::open(address, &name).await.ok() };
    let mut session = wait_for("a session", open).await?;
    for channel in 0..CHANNELS {
        let line = format!("REGISTER {name} channel-{channel}");
        let (Said::Ok | Said::Unavailable) = session.command(&line).await?;
    }
    session.ping().await?;
    Ok(session)
}
