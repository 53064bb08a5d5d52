//! What nsqlookupd does, as conversations that can be read: `*.txt` beside this file.
//!
//! Every conversation is held with one member, with a cluster of three, and with the real
//! nsqlookupd if there is one (on `PATH`, or in `NSQ_BIN_DIR`), unless it is marked `(differs)`:
//! what raftlookupd does better on purpose. With three members, all nsqds of a conversation are at
//! one of them, and each HTTP request goes to the next: the answers are those of one nsqlookupd, at
//! once. `CONVERSATIONS=v1-` takes only the files whose names contain this.
//!
//! # The notation
//!
//! `## ` begins a conversation, and each begins with an empty registry. `# ` is a comment. An
//! indented line belongs to the one above, without its indentation. `flags: ...` at the head of a
//! file is what the server is started with.
//!
//! | V1 | |
//! |---|---|
//! | `c1 connects` | and sends the magic, `  V1`; or not: `c1 connects without magic` |
//! | `c1 is nsqd h1` | connects and identifies itself: host `h1`, ports 4150 and 4151, version 1.3.0 |
//! | `c1 > REGISTER t` | sends a line and its LF |
//! | `c1 > IDENTIFY {...}` | sends `IDENTIFY`, LF, the length of the body, the body |
//! | `c1 sends PI` | sends these bytes and no others |
//! | `c1 < OK` | the next answer (its length before it); `c1 < OK, 500 times` |
//! | `c1 is closed` | nothing more comes, but the end of the connection |
//! | `c1 says no more` | half-closes the connection |
//! | `c1 leaves` | half-closes it and waits until the server has closed it, too |
//! | `c1 breaks off` | resets it |
//! | `c1 keeps sending PING` | from now on, before each question of an `eventually` |
//!
//! | HTTP | |
//! |---|---|
//! | `GET /topics` | a request on a connection of its own, ... |
//! | `with Accept: text/html` | ... with a header (besides `Host` and `Content-Length`) ... |
//! | `with body topic=t` | ... and a body ... |
//! | `200 {"topics":[]}` | ... and the whole answer: status and body |
//! | `header Allow: GET` | it has this header; also `no header Allow`, `no other header` |
//! | `eventually GET /topics` | asked again until it is answered so; fails after a minute |
//! | `eventually not before 1s GET /topics` | and not answered so within 1 s of the step before |
//! | `w1 connects to HTTP` | then `w1 sends` raw bytes, and `w1 < 200 OK` |
//!
//! | the program | |
//! |---|---|
//! | `run --version` | runs the program with these flags and no others (`\x20` is a space in one) ... |
//! | `with file log_level = "info"` | ... and these lines in the file that `<file>` names |
//! | `start --tcp-address=<tcp> --http-address=<http>` | starts one that stays, on free ports; the conversation goes on with it |
//! | `start again` | starts it once more, after its end, with what it has on disk |
//! | `signal TERM` | sends it a signal |
//! | `exit 0` | it ends, with this code |
//! | `stderr FATAL: <any>` | such a line is printed; also `stdout ...`, `stdout is empty` |
//!
//! Escapes are `\n`, `\r`, `\t`, `\0`, `\\` and `\xff`, and `<x*64>` is 64 times `x`. In what is
//! expected, `<any>`, `<number>` and `<remote c1>` (from where `c1` is connected, `HOST:PORT`) stand
//! for what varies. What begins with `{` is JSON and knows JSON's escapes only. It must be compact, with its
//! keys in this order; the order of lists does not count. There, placeholders stand for whole
//! values, also `<text>` (not empty) and `<negative>`, and `...` for further keys. Header names are
//! compared in any case; those of `X-Raftlookupd-` are not looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects
#![allow(unreachable_pub)] // the modules are a test's, nobody else sees them

#[path = "../support/mod.rs"]
mod support;

mod connection;
mod json;
mod player;
mod script;
mod servers;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use player::Player;
use script::Script;
use servers::{Kind, Servers};

#[test]
fn one_member() {
    hold_all(&Kind::OneMember);
}

#[test]
fn three_members() {
    hold_all(&Kind::ThreeMembers);
}

#[test]
fn nsqlookupd() {
    if let Some(program) = support::real::find("nsqlookupd") {
        hold_all(&Kind::Nsqlookupd(program));
    }
}

/// Scripts with the same flags share their servers, one after the other.
fn hold_all(kind: &Kind) {
    let mut by_flags: BTreeMap<Vec<String>, Vec<(String, Script)>> = BTreeMap::new();
    for (name, script) in scripts() {
        let scripts = by_flags.entry(script.flags.clone()).or_default();
        scripts.push((name, script));
    }
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads = by_flags.iter().map(|(flags, scripts)| {
            scope.spawn(move || {
                let servers = Servers::start(kind, flags);
                let held = scripts
                    .iter()
                    .flat_map(|(name, script)| hold(kind, &servers, name, script));
                held.collect::<Vec<String>>()
            })
        });
        let threads: Vec<_> = threads.collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.flat_map(Result::unwrap).collect()
    });
    let count = failures.len();
    assert!(
        count == 0,
        "{count} conversations went otherwise:\n\n{}",
        failures.join("\n\n")
    );
}

/// What went otherwise.
fn hold(kind: &Kind, servers: &Servers, name: &str, script: &Script) -> Vec<String> {
    let mut failures = Vec::new();
    for (number, conversation) in script.conversations.iter().enumerate() {
        let skipped = match kind {
            Kind::OneMember => false,
            Kind::ThreeMembers => conversation.starts_programs(),
            Kind::Nsqlookupd(_) => conversation.differs,
        };
        if skipped {
            continue;
        }
        let mut player = Player::new(kind, servers.ports(), number);
        let played = player.play(conversation);
        // Whatever happened, the next one finds an empty registry.
        let cleaned = player.clean_up();
        if let Err(error) = played.and(cleaned) {
            let (title, kind) = (&conversation.title, kind.name());
            failures.push(format!("{name}:{error}\nin \"{title}\", with {kind}"));
        }
    }
    failures
}

fn scripts() -> Vec<(String, Script)> {
    let wanted = std::env::var("CONVERSATIONS").unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let mut scripts = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".txt") && name.contains(&wanted) {
            let script = Script::parse(&fs::read_to_string(path).unwrap());
            scripts.push((
                name.clone(),
                script.unwrap_or_else(|error| panic!("{name}, {error}")),
            ));
        }
    }
    assert!(!scripts.is_empty(), "no script has {wanted:?} in its name");
    scripts.sort_by(|(left, _), (right, _)| left.cmp(right));
    scripts
}
