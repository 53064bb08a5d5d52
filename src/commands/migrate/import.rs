//! Runs `raftlookupd import`: creates in the cluster what only the nsqlookupds list.

use std::io::Write;

use super::args::Import;
use super::difference::Item;
use super::in_flight;
use super::lookupd::Lookupd;
use super::plan::{Counts, Plan};
use super::progress::Progress;
use super::sides::Sides;
use crate::error::Result;

/// Reads both sides and creates what is missing, or prints what that would be.
///
/// # Errors
/// [`crate::error::Error::Lookupd`]; what was created until then is reported and stays.
pub(super) async fn run(import: Import) -> Result<()> {
    let sides = Sides::read(import.registries).await?;
    let plan = Plan::new(&sides.there, &sides.here);
    let mut done = Counts::default();
    let (title, outcome) = if import.dry_run {
        plan.steps.iter().for_each(|step| tick_off(step, &mut done));
        ("to be imported", Ok(()))
    } else {
        (
            "imported",
            carry_out(&plan, &sides.cluster, &mut done).await,
        )
    };
    for line in plan.summary(title, done) {
        say(&line);
    }
    outcome
}

async fn carry_out(plan: &Plan, cluster: &Lookupd, done: &mut Counts) -> Result<()> {
    let mut progress = Progress::new("importing".into(), plan.steps.len());
    let work = |step: Item| {
        let cluster = cluster.clone();
        async move { create(&cluster, &step).await.map(|()| step) }
    };
    in_flight::each(plan.steps.iter().cloned(), work, |step| {
        tick_off(&step, done);
        progress.step();
        Ok(())
    })
    .await
}

/// Creating a channel creates its topic, so the order does not matter.
async fn create(cluster: &Lookupd, step: &Item) -> Result<()> {
    match step {
        Item::Topic(topic) => cluster.post("/topic/create", &[("topic", topic)]).await,
        Item::Channel { topic, channel } => {
            let arguments = [("topic", topic.as_str()), ("channel", channel)];
            cluster.post("/channel/create", &arguments).await
        }
        Item::Tombstone {
            topic,
            producer,
            http_port,
        } => {
            // Upstream's form: no brackets around an IPv6 address.
            let node = format!("{}:{http_port}", producer.broadcast_address);
            let arguments = [("topic", topic.as_str()), ("node", &node)];
            cluster.post("/topic/tombstone", &arguments).await
        }
        // Only an nsqd itself can register.
        Item::Producer { .. } => Ok(()),
    }
}

fn tick_off(step: &Item, done: &mut Counts) {
    done.count(step);
    say(&format!("+ {step}"));
}

/// Prints a line of the result. If it cannot be written, the import goes on.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
