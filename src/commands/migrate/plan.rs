//! Plans an import, and summarizes it. PURE.

use std::fmt;

use super::difference::{Difference, Item, Side, compare};
use super::inventory::Inventory;

/// The steps of an import.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Topics, channels and tombstones, in the order of their names.
    pub(super) steps: Vec<Item>,
    there_already: Counts,
    /// They go with their last claim, so there is nothing to import.
    ephemeral_names: usize,
    /// Their nsqds have not registered the topic in the cluster, so they would have no effect.
    idle_tombstones: usize,
}

/// The number of items that an import creates, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    topics: usize,
    channels: usize,
    tombstones: usize,
}

impl Plan {
    /// Plans to create what is missing here.
    pub(super) fn new(there: &Inventory, here: &Inventory) -> Plan {
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

    /// The summary: the last lines of the output.
    pub(super) fn summary(&self, title: &str, done: Counts) -> Vec<String> {
        let mut lines = vec![
            format!("{title}: {done}"),
            format!("already there: {}", self.there_already),
        ];
        if self.ephemeral_names > 0 {
            lines.push(format!(
                "skipped: #ephemeral names {}, which go with their last claim",
                self.ephemeral_names
            ));
        }
        if self.idle_tombstones > 0 {
            lines.push(format!(
                "skipped: tombstones {}, which have no effect until their nsqds register with \
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
    /// Counts an item.
    pub(super) fn count(&mut self, item: &Item) {
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
    use crate::commands::migrate::difference::tests::inventory;

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
             already there: topics 2, channels 2, tombstones 1\n\
             skipped: tombstones 1, which have no effect until their nsqds register with the cluster"
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
             already there: topics 0, channels 0, tombstones 0\n\
             skipped: #ephemeral names 2, which go with their last claim"
        );
    }

    #[test]
    fn what_is_done_is_not_planned_again() {
        let all = ["a: x", "b: -h:1"];
        let plan = Plan::new(&inventory(&all), &inventory(&all));
        assert_eq!(plan.steps, []);
        assert_eq!(
            plan.summary("imported", Counts::default())[1],
            "already there: topics 2, channels 1, tombstones 1"
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
                "already there: topics 0, channels 0, tombstones 0",
                "not done: 1 of 2",
            ]
        );
    }
}
