//! A member is killed and started again: how long until it answers a lookup for what it had.

use std::time::Instant;

use crate::clients::http;
use crate::error::Result;
use crate::figures::Unit;
use crate::nsqds::{Nsqds, lookup_path, producers, topic};
use crate::size::Size;
use crate::stage::Stage;
use crate::targets::wait_until;
use crate::workloads::reconnect;

pub(super) const COLD_START: &str = "cold-start";

pub(super) async fn run(stage: &mut Stage<'_>, size: Size, nsqds: &mut Nsqds) -> Result<()> {
    let wanted = stage.wants(COLD_START) || stage.wants(reconnect::RECONNECT);
    if !wanted || !stage.target.kind.is_replicated() || !stage.target.is_ours() {
        return Ok(());
    }
    let member = stage.target.follower().await?;
    stage.target.kill(member)?;
    let began = Instant::now();
    stage.target.restart(member)?;
    let address = stage.target.members[member].http;
    let path = lookup_path(&topic(size.topics() - 1));
    wait_until("the restarted member to answer", || async {
        let answer = http::fetch_once(address, &path).await;
        answer.is_ok_and(|(_, body)| producers(&body) == size.nsqds())
    })
    .await?;
    let took = began.elapsed();
    stage.note(COLD_START, Unit::Seconds, took.as_secs_f64());
    reconnect::reconnect(stage, nsqds, member).await
}
