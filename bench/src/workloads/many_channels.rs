//! One nsqd with 10,000 channels connects to three members, one after the other as nsqd does,
//! and registers one channel after the other.

use std::time::{Duration, Instant};

use crate::clients::v1::{Said, Session};
use crate::error::Result;
use crate::figures::Unit;
use crate::stage::Stage;

/// Nobody knows it yet.
const FRESH: &str = "channels-10000-fresh";
/// The members have not noticed yet that its connections are gone.
const AGAIN: &str = "channels-10000-reconnecting";

pub(super) const WORKLOADS: &[&str] = &[FRESH, AGAIN];

const CONNECTIONS: usize = 3;
const TOPICS: usize = 2_000;
const CHANNELS: usize = 5;

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<()> {
    let (fresh, old) = connect(stage).await?;
    stage.note(FRESH, Unit::Seconds, fresh.as_secs_f64());
    if stage.wants(AGAIN) {
        let (again, _) = connect(stage).await?;
        stage.note(AGAIN, Unit::Seconds, again.as_secs_f64());
    }
    drop(old);
    Ok(())
}

async fn connect(stage: &Stage<'_>) -> Result<(Duration, Vec<Session>)> {
    let mut sessions = Vec::new();
    let began = Instant::now();
    for number in 0..CONNECTIONS {
        // Also to nsqlookupds that stand alone: nsqd knows all of them.
        let members = &stage.target.members;
        let address = members[number % members.len()].tcp;
        let mut session = Session::open(address, "many-channels").await?;
        for topic in 0..TOPICS {
            for channel in 0..CHANNELS {
                let line = format!("REGISTER topic-{topic:05} channel-{channel}");
                // What is unavailable, nsqd does not repeat either: the member does.
                let (Said::Ok | Said::Unavailable) = session.command(&line).await?;
            }
        }
        session.ping().await?;
        sessions.push(session);
    }
    Ok((began.elapsed(), sessions))
}
