//! Runs `raftlookupd diff`: prints what differs.

use std::io::{BufWriter, Write};

use super::args::Diff;
use super::difference::{Difference, Side, compare};
use super::inventory::Inventory;
use super::progress::note;
use super::sides::Sides;
use crate::error::{Error, Result};

/// The outcome of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything is imported, or nothing differs.
    Well,
    /// The registries differ.
    Different,
}

/// Reads both sides and prints what differs.
///
/// # Errors
/// [`Error::Lookupd`] if a side cannot be read, [`Error::System`] if it cannot be printed.
pub(super) async fn run(diff: Diff) -> Result<Ended> {
    let sides = Sides::read(diff.registries).await?;
    let differences = compare(&sides.there, &sides.here);
    print(&differences, &sides.each).map_err(|source| Error::System {
        action: "write to standard output",
        source,
    })?;
    let ephemeral = sides.there.ephemeral_names();
    if ephemeral > 0 {
        note(&format!("skipped: #ephemeral names {ephemeral}"));
    }
    if differences.is_empty() {
        let all = sides.there.durable();
        note(&format!(
            "no difference: topics {}, channels {}, producers of topics {}",
            all.topics, all.channels, all.producers
        ));
        return Ok(Ended::Well);
    }
    note(&format!("differences: {}", differences.len()));
    Ok(Ended::Different)
}

fn print(differences: &[Difference], each: &[(String, Inventory)]) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for difference in differences {
        writeln!(out, "{}", line(difference, each))?;
    }
    out.flush()
}

/// Names the nsqlookupds that list the item.
fn line(Difference { side, item }: &Difference, each: &[(String, Inventory)]) -> String {
    match side {
        Side::Here => format!("only here: {item}"),
        Side::There => {
            let listing = each.iter().filter(|(_, inventory)| inventory.has(item));
            let names: Vec<&str> = listing.map(|(name, _)| name.as_str()).collect();
            format!("only at {}: {item}", names.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::migrate::difference::tests::inventory;

    #[test]
    fn lines_name_who_lists_it() {
        let each = [
            ("http://a:1".to_string(), inventory(&["t: x y"])),
            ("http://b:1".to_string(), inventory(&["t: y z -h:1"])),
        ];
        let there = Inventory::union(each.iter().map(|(_, inventory)| inventory));
        let differences = compare(&there, &inventory(&["t: +h:1", "u:"]));
        let lines: Vec<String> = differences
            .iter()
            .map(|difference| line(difference, &each))
            .collect();
        assert_eq!(
            lines,
            [
                "only at http://a:1: channel t/x",
                "only at http://a:1,http://b:1: channel t/y",
                "only at http://b:1: channel t/z",
                "only at http://b:1: tombstone t h:1",
                "only here: topic u",
            ]
        );
    }
}
