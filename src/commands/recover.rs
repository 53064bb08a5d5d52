//! Runs `raftlookupd recover`: shows what data paths hold, and makes a new cluster of one of them when
//! the quorum is lost. Works on data paths that no process uses.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use raftlookupd_raft::recovery::{Contents, force_new_cluster, inspect};

use super::clap_text::{Request, parse};
use crate::error::{Error, Result};

/// Shows what stopped members' data paths hold, and makes a new cluster of one
///
/// For a cluster that has lost more than half of its members for good. Give the data paths that are
/// left, find the one that has most, and run the command once more with that one only and
/// --force-new-cluster. Start that member; remove the data paths of the others, announce each with
/// raftlookupd cluster add, and start them too: they rejoin as new members. What was acknowledged and is on none of the data paths is lost.
#[derive(Debug, Parser)]
#[command(
    name = "raftlookupd recover",
    no_binary_name = true,
    verbatim_doc_comment
)]
pub struct Recover {
    /// The data path of a stopped member; may be repeated
    #[arg(long, required = true, value_name = "DIR")]
    data_path: Vec<PathBuf>,
    /// Make the member the only one of a new cluster, with everything that it holds
    #[arg(long)]
    force_new_cluster: bool,
}

/// Reads the words after `recover`.
///
/// # Errors
/// [`Error::Usage`] if the flags are wrong.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Request<Recover>> {
    let request: Request<Recover> = parse(words)?;
    if let Request::Run(recover) = &request
        && recover.force_new_cluster
        && recover.data_path.len() > 1
    {
        let text = "--force-new-cluster takes one --data-path: the one that has most";
        return Err(Error::Usage(text.into()));
    }
    Ok(request)
}

/// Shows what the data paths hold, or makes a new cluster of the one that is given.
///
/// # Errors
/// [`Error::Recover`] if a data path cannot be used.
pub async fn run(recover: Recover) -> Result<()> {
    let mut all = Vec::new();
    for data_path in &recover.data_path {
        let contents = match recover.force_new_cluster {
            true => force_new_cluster(data_path).await,
            false => inspect(data_path),
        };
        all.push(contents.map_err(Error::Recover)?);
    }
    let mut text = String::new();
    for contents in &all {
        describe(&mut text, contents, SystemTime::now());
    }
    text += &match recover.force_new_cluster {
        true => forced(&all),
        false => compare(&all),
    };
    print!("{text}");
    Ok(())
}

fn describe(text: &mut String, contents: &Contents, now: SystemTime) {
    let ((term, index), totals) = (contents.last, contents.totals);
    let place = match &contents.place {
        Some((cluster, id)) => format!("member {id} of cluster {cluster}"),
        None => "not part of a cluster".into(),
    };
    let members = contents.members.iter();
    let members = members.map(|(id, (name, address, votes))| {
        let kind = if *votes { "" } else { ", learner" };
        format!("{name}={address} (id {id}{kind})")
    });
    let rows = [
        ("name", contents.name.clone()),
        ("is", place),
        ("members", members.collect::<Vec<_>>().join(", ")),
        ("last entry", format!("{index} of term {term}")),
        ("voted in", format!("term {}", contents.voted_in)),
        (
            "registry",
            format!(
                "{} topics, {} channels, {} producers at entry {}",
                totals.topics, totals.channels, totals.producers, contents.applied
            ),
        ),
        ("written", written(contents.written, now)),
    ];
    // Writing to a string never fails.
    let _ = writeln!(text, "{}", contents.data_path.display());
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<11} {value}");
    }
}

fn written(written: Option<SystemTime>, now: SystemTime) -> String {
    let Some(written) = written else {
        return "unknown".into();
    };
    let ago = now.duration_since(written).unwrap_or_default().as_secs();
    let seconds = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{ago} s ago (Unix time {})", seconds.as_secs())
}

/// Which of several data paths has most.
fn compare(all: &[Contents]) -> String {
    let clusters = all.iter().filter_map(|contents| contents.place.as_ref());
    let mut clusters: Vec<&String> = clusters.map(|(cluster, _)| cluster).collect();
    clusters.sort();
    clusters.dedup();
    if clusters.len() > 1 {
        return "These belong to different clusters, and cannot be compared.\n".into();
    }
    match all.iter().max_by_key(|contents| contents.last) {
        Some(most) if all.len() > 1 => format!(
            "{path} has most. If the quorum is lost for good:\n  raftlookupd recover --data-path {path} \
             --force-new-cluster\n",
            path = most.data_path.display()
        ),
        _ => String::new(),
    }
}

fn forced(all: &[Contents]) -> String {
    let names = all.iter().map(|contents| contents.name.as_str());
    format!(
        "{} is the only member of a new cluster now. Start it with the flags it had. Then start the others \
         with empty data paths, each after raftlookupd cluster add: they rejoin as new members.\n",
        names.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftlookupd_raft::storage::registration_db::Totals;

    fn contents(path: &str, cluster: &str, last: (u64, u64)) -> Contents {
        let members = [(1, ("a".into(), "h1:4162".into(), true))];
        Contents {
            data_path: path.into(),
            name: "a".into(),
            place: Some((cluster.into(), 1)),
            members: members.into(),
            last,
            voted_in: 3,
            applied: 5,
            totals: Totals::default(),
            written: Some(UNIX_EPOCH),
        }
    }

    #[test]
    fn flags() {
        let read = |line: &str| read(line.split_whitespace().map(OsString::from));
        assert!(read("").is_err());
        assert!(read("--data-path=a --data-path=b").is_ok());
        assert!(read("--data-path=a --force-new-cluster").is_ok());
        let error = read("--data-path=a --data-path=b --force-new-cluster");
        assert_eq!(error.unwrap_err().exit_code(), 2);
        assert!(matches!(read("--help"), Ok(Request::Help(_))));
    }

    #[test]
    fn the_one_with_most_is_named() {
        let (one, two) = (contents("/a", "7", (3, 9)), contents("/b", "7", (2, 90)));
        assert!(compare(&[two.clone(), one.clone()]).starts_with("/a has most"));
        assert_eq!(compare(std::slice::from_ref(&one)), "");
        let other = contents("/c", "8", (9, 9));
        assert!(compare(&[one, other]).contains("different clusters"));
        let mut text = String::new();
        describe(&mut text, &two, UNIX_EPOCH);
        assert!(text.contains("  last entry  90 of term 2\n"), "{text}");
        assert!(text.contains("a=h1:4162 (id 1)"), "{text}");
    }
}
