//! `raftlookupd import`: creates at the cluster what only the nsqlookupds list.

use std::fmt;
use std::io::Write;

use super::args::Import;
use super::difference::{Difference, Item, Side, compare};
use super::in_flight;
use super::inventory::Inventory;
use super::lookupd::Lookupd;
use super::progress::Progress;
use super::sides::Sides;
use crate::error::Result;

/// What an import has to do. PURE.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Topics, channels and tombstones, in the order of their names.
    steps: Vec<Item>,
    there_already: Counts,
    /// They go with their last claim, so there is nothing to bring.
    ephemeral_names: usize,
    /// Their nsqds are not registered at the cluster for the topic: they would have no effect.
    idle_tombstones: usize,
}

/// How many of what an import brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    topics: usize,
    channels: usize,
    tombstones: usize,
}

/// Reads both sides and creates what is missing, or says what that would be.
///
/// # Errors
/// [`crate::error::Error::Lookupd`]; what was done until then is reported and stays.
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

/// A line of the result. If nobody reads it any more, the import goes on all the same.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

impl Plan {
    fn new(there: &Inventory, here: &Inventory) -> Plan {
        let mut plan = Plan {
            ephemeral_names: there.ephemeral_names(),
            ..Plan::default()
        };
        let mut missing = Counts::default();
        for Difference { side, item } in compare(there, here) {
            match item {
                _ if side == Side::Here => {}
                Item::Producer { topic, producer } => {
                    let listing = there.listing(&topic, &producer);
                    if listing.is_some_and(|listing| listing.tombstoned) {
                        plan.idle_tombstones += 1;
                    }
                }
                step => {
                    missing.count(&step);
                    plan.steps.push(step);
                }
            }
        }
        let all = there.durable();
        plan.there_already = Counts {
            topics: all.topics - missing.topics,
            channels: all.channels - missing.channels,
            tombstones: all.tombstones - missing.tombstones - plan.idle_tombstones,
        };
        plan
    }

    /// The last lines of the result.
    fn summary(&self, title: &str, done: Counts) -> Vec<String> {
        let mut lines = vec![
            format!("{title}: {done}"),
            format!("there already: {}", self.there_already),
        ];
        if self.ephemeral_names > 0 {
            lines.push(format!(
                "left out: #ephemeral names {}, which go with their last claim",
                self.ephemeral_names
            ));
        }
        if self.idle_tombstones > 0 {
            lines.push(format!(
                "left out: tombstones {}, which have no effect before their nsqds register with \
                 the cluster",
                self.idle_tombstones
            ));
        }
        let left = self.steps.len() - done.total();
        if left > 0 {
            lines.push(format!("not done: {left} of {}", self.steps.len()));
        }
        lines
    }
}

impl Counts {
    fn count(&mut self, item: &Item) {
        match item {
            Item::Topic(_) => self.topics += 1,
            Item::Channel { .. } => self.channels += 1,
            Item::Tombstone { .. } => self.tombstones += 1,
            Item::Producer { .. } => {}
        }
    }

    fn total(self) -> usize {
        self.topics + self.channels + self.tombstones
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            topics,
            channels,
            tombstones,
        } = self;
        write!(
            f,
            "topics {topics}, channels {channels}, tombstones {tombstones}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::difference::tests::inventory;

    fn shown(there: &[&str], here: &[&str]) -> String {
        let plan = Plan::new(&inventory(there), &inventory(here));
        let mut done = Counts::default();
        let steps = plan.steps.iter().map(|step| {
            done.count(step);
            format!("+ {step}")
        });
        let mut lines: Vec<String> = steps.collect();
        lines.extend(plan.summary("imported", done));
        lines.join("\n")
    }

    #[test]
    fn only_what_is_missing() {
        assert_eq!(
            shown(
                &["a: x y", "b: z +h:1", "c: v -h:1 -i:1 -j:1 +k:1"],
                &["a: x w", "c: v +h:1 -i:1 +k:1", "d:"],
            ),
            "+ channel a/y\n\
             + topic b\n\
             + channel b/z\n\
             + tombstone c h:1\n\
             imported: topics 1, channels 2, tombstones 1\n\
             there already: topics 2, channels 2, tombstones 1\n\
             left out: tombstones 1, which have no effect before their nsqds register with the cluster"
        );
    }

    #[test]
    fn ephemeral_names_stay_where_they_are() {
        assert_eq!(
            shown(
                &["a: x#ephemeral", "b#ephemeral: y -h:1"],
                &["b#ephemeral: +h:1"]
            ),
            "+ topic a\n\
             + tombstone b#ephemeral h:1\n\
             imported: topics 1, channels 0, tombstones 1\n\
             there already: topics 0, channels 0, tombstones 0\n\
             left out: #ephemeral names 2, which go with their last claim"
        );
    }

    #[test]
    fn what_is_done_is_not_planned_again() {
        let all = ["a: x", "b: -h:1"];
        let plan = Plan::new(&inventory(&all), &inventory(&all));
        assert_eq!(plan.steps, []);
        assert_eq!(
            plan.summary("imported", Counts::default())[1],
            "there already: topics 2, channels 1, tombstones 1"
        );
    }

    #[test]
    fn a_part_is_said_to_be_one() {
        let plan = Plan::new(&inventory(&["a: x"]), &inventory(&[]));
        let mut done = Counts::default();
        done.count(&plan.steps[0]);
        assert_eq!(
            plan.summary("imported", done),
            [
                "imported: topics 1, channels 0, tombstones 0",
                "there already: topics 0, channels 0, tombstones 0",
                "not done: 1 of 2",
            ]
        );
    }
}
