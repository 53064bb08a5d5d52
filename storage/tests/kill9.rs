//! Tests that a process killed at any moment loses nothing that it has acknowledged.
//!
//! The test runs itself as a child, which writes and prints what was acknowledged. The parent kills
//! it after a number of lines, opens the data path and compares.
// Tests unwrap what they expect; clippy's exemption for tests does not cover helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use raftlookupd_storage::log_table::StoredVote;
use raftlookupd_storage::store::Store;
use support::{Feed, Random, attach, claim, entry, load, release};

/// Set for the child: the data path.
const DATA_PATH: &str = "RAFTLOOKUPD_KILL9_DATA_PATH";

const CYCLES: u64 = 20;

/// The number of appends that the child has in flight.
const IN_FLIGHT: usize = 4;

#[test]
fn nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut promised = Promised::default();
    let mut random = Random(9);
    for cycle in 0..CYCLES {
        let words = 1 + random.below(400);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DATA_PATH, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stdin = child.stdin.take().unwrap();
        // In every other cycle right after a vote, before anything else is synced.
        let after_vote = cycle % 2 == 1;
        let mut heard = 0;
        for line in stdout.lines() {
            let word = promised.hear(&line.unwrap());
            heard += u64::from(word != Word::None);
            if heard >= words && (!after_vote || word == Word::Vote) {
                // SIGKILL. What it printed before is still in the pipe.
                child.kill().unwrap();
            } else if word == Word::Vote {
                // It may have exited already.
                let _ = stdin.write_all(b"go on\n");
            }
        }
        child.wait().unwrap();
        assert!(heard >= words, "cycle {cycle}: the child ended by itself");
        promised.check(folder.path(), cycle);
    }
    assert!(promised.purged > 0 && promised.vote > 0 && promised.committed > 0);
    // Segments were created and removed.
    let first = folder.path().join("log/0000000000000001.log");
    assert!(!first.exists());
}

/// The prefix of the child's lines.
#[derive(PartialEq)]
enum Word {
    /// The child's test harness prints as well.
    None,
    Vote,
    Other,
}

/// What the child has printed.
#[derive(Default)]
struct Promised {
    /// One more than the last acknowledged index.
    end: u64,
    /// The term of the last acknowledged vote.
    vote: u64,
    /// One more than the last purge point.
    purged: u64,
    /// The last commit point.
    committed: u64,
}

impl Promised {
    fn hear(&mut self, line: &str) -> Word {
        let Some((word, number)) = line.strip_prefix("> ").and_then(|w| w.split_once(' ')) else {
            return Word::None;
        };
        let number: u64 = number.parse().unwrap();
        match word {
            "appended" => self.end = number + 1,
            // Printed before it starts, since the child may be killed in the middle.
            "truncating" => self.end = self.end.min(number),
            "voted" => {
                self.vote = number;
                return Word::Vote;
            }
            "purged" => self.purged = number + 1,
            "committed" => self.committed = number,
            other => panic!("the child said {other}"),
        }
        Word::Other
    }

    fn check(&self, path: &Path, cycle: u64) {
        let store = Store::open(path).unwrap_or_else(|error| panic!("cycle {cycle}: {error}"));
        let log = store.log();
        let vote = log.vote().unwrap().map_or(0, |vote| vote.term);
        assert!(vote >= self.vote, "cycle {cycle}: vote {vote}");
        // Not synced, so a power failure could lose it, but a kill does not.
        let committed = log.committed().unwrap();
        let committed = committed.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
        assert!(committed >= self.committed, "cycle {cycle}: {committed}");
        let purged = log.purge_point().unwrap().map_or(0, |point| point.0 + 1);
        assert!(purged >= self.purged, "cycle {cycle}: purged {purged}");
        let found = log.read(0, u64::MAX, usize::MAX).unwrap();
        for (position, (index, bytes)) in found.iter().enumerate() {
            assert_eq!(*index, purged + position as u64, "cycle {cycle}");
            assert_eq!(*bytes, entry(*index, bytes.len()).1, "cycle {cycle}");
        }
        let end = purged + found.len() as u64;
        assert!(
            end >= self.end,
            "cycle {cycle}: the log ends before {}",
            self.end
        );
        // The registry may be older than what was printed, but not older than the log can repair.
        let loaded = load(&store).unwrap();
        let applied = loaded
            .mark
            .map_or(0, |mark| u64::from_be_bytes(mark.try_into().unwrap()));
        assert_eq!(
            loaded.rebuilt, None,
            "cycle {cycle}: damaged by a mere kill"
        );
        assert!(applied >= purged, "cycle {cycle}: {applied} < {purged}");
        store.close().unwrap();
    }
}

/// Writes until it is killed. Batch `n` of the registry belongs to entry `n - 1`.
#[test]
#[ignore = "runs only as the child of the test above"]
fn child() {
    let Some(path) = std::env::var_os(DATA_PATH) else {
        return;
    };
    // The harness has started a line.
    println!();
    let store = Store::open(Path::new(&path)).unwrap();
    let log = store.log();
    let registrations = store.registrations();
    let loaded = load(&store).unwrap();
    let mut feed = match loaded.mark {
        Some(mark) => Feed::from(loaded.db, &mark),
        None => Feed::default(),
    };
    let mut next = match log.last().unwrap() {
        Some((last, _)) => last + 1,
        None => log.purge_point().unwrap().map_or(0, |point| point.0 + 1),
    };
    let mut term = log.vote().unwrap().map_or(0, |vote| vote.term);
    let mut random = Random(next);
    let mut waiting = VecDeque::new();
    loop {
        let length = match random.below(10) {
            // Large enough for several segments.
            0 => 100_000,
            1 => 5_000,
            _ => 200,
        };
        let (done, outcome) = mpsc::channel();
        let index = next;
        log.append(vec![entry(index, length)], move |result| {
            result.unwrap();
            println!("> appended {index}");
            done.send(()).unwrap();
        })
        .unwrap();
        next += 1;
        waiting.push_back(outcome);
        if waiting.len() > IN_FLIGHT {
            waiting.pop_front().unwrap().recv().unwrap();
        }
        // Apply what is certainly acknowledged.
        while feed.applied + (waiting.len() as u64) < next {
            let topic = format!("topic-{}", feed.applied % 50);
            let events = match feed.applied % 3 {
                0 => vec![attach(), claim(&topic, Some("channel"))],
                1 => vec![claim(&topic, None)],
                _ => vec![release(&topic)],
            };
            feed.apply(&registrations, events);
        }
        match random.below(40) {
            0 => {
                term += 1;
                let vote = StoredVote {
                    term,
                    node_id: 1,
                    committed: false,
                };
                // Nothing is in flight: the vote must be durable by itself.
                for outcome in waiting.drain(..) {
                    outcome.recv().unwrap();
                }
                log.save_vote(vote).unwrap();
                println!("> voted {term}");
                std::io::stdin().read_line(&mut String::new()).unwrap();
            }
            1 if feed.applied > 20 => {
                let upto = feed.applied - 1 - random.below(20);
                feed.snapshot(&store);
                log.purge(upto, b"").unwrap();
                println!("> purged {upto}");
            }
            4 => {
                log.save_committed(&feed.applied.to_be_bytes()).unwrap();
                println!("> committed {}", feed.applied);
            }
            2 | 3 if feed.applied < next => {
                // Only what is not applied, as Raft does with uncommitted entries.
                for outcome in waiting.drain(..) {
                    outcome.recv().unwrap();
                }
                let from = feed.applied + random.below(next - feed.applied);
                println!("> truncating {from}");
                log.truncate(from).unwrap();
                next = from;
            }
            _ => {}
        }
    }
}
