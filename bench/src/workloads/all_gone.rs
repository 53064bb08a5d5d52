//! All nsqds are gone at the same time: how long until none is listed.

use std::time::{Duration, Instant};

use crate::clients::http::{Connection, get};
use crate::error::{Error, Result};
use crate::figures::Unit;
use crate::nsqds::{Nsqds, lookup_path, producers, topic};
use crate::size::Size;
use crate::stage::Stage;
use crate::targets::PATIENCE;

pub(super) const ALL_GONE: &str = "all-gone";

/// Topics that are looked at; the members release them in an order of their own.
const SAMPLE: usize = 50;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn run(stage: &mut Stage<'_>, size: Size, nsqds: Nsqds) -> Result<()> {
    if !stage.wants(ALL_GONE) {
        return Ok(());
    }
    let follower = stage.target.follower().await?;
    let mut connection = Connection::open(stage.target.members[follower].http).await?;
    let sample = (0..SAMPLE).map(|number| number * size.topics() / SAMPLE);
    let paths = sample.map(|number| lookup_path(&topic(number)));
    let requests: Vec<Vec<u8>> = paths.map(|path| get(&path)).collect();
    let began = Instant::now();
    drop(nsqds);
    let gone = loop {
        // The time of the first look that finds none: the look itself takes a while.
        let gone = began.elapsed();
        if none_listed(&mut connection, &requests).await? {
            break gone;
        }
        if gone > PATIENCE {
            let what = "all nsqds to be gone".into();
            let waited = PATIENCE;
            return Err(Error::Waited { what, waited });
        }
        tokio::time::sleep(PAUSE).await;
    };
    stage.note(ALL_GONE, Unit::Seconds, gone.as_secs_f64());
    Ok(())
}

async fn none_listed(connection: &mut Connection, requests: &[Vec<u8>]) -> Result<bool> {
    for request in requests {
        let response = connection.fetch(request).await?;
        if response.status() != 200 || producers(response.body()) > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
