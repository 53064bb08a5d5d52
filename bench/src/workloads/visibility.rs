//! How long it takes from a REGISTER at one member until lookups at another show it.

use std::time::{Duration, Instant};

use crate::clients::http::{Connection, get};
use crate::clients::v1::Session;
use crate::error::Result;
use crate::latency::Latencies;
use crate::nsqds::lookup_path;
use crate::stage::Stage;

pub(super) const VISIBILITY: &str = "visibility";

/// Between two registrations.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<()> {
    if !stage.wants(VISIBILITY) {
        return Ok(());
    }
    let target = &stage.target;
    let here = target.leader().await?;
    let there = target.follower().await?;
    let mut session = Session::open(target.members[here].tcp, VISIBILITY).await?;
    let mut connection = Connection::open(target.members[there].http).await?;
    let mut latencies = Latencies::new();
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < stage.options.duration {
        let topic = format!("{VISIBILITY}-{number:06}");
        number += 1;
        let line = format!("REGISTER {topic}");
        let request = get(&lookup_path(&topic));
        let sent = Instant::now();
        let register = session.command(&line);
        let seen = async {
            let mut status = 0;
            while status != 200 {
                status = connection.send(&request).await?.status();
            }
            Ok(sent.elapsed())
        };
        let (_, seen) = tokio::try_join!(register, seen)?;
        latencies.record(seen);
        tokio::time::sleep(PAUSE).await;
    }
    stage.note_latencies(VISIBILITY, latencies);
    Ok(())
}
