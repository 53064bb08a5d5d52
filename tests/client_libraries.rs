//! Client libraries, where there are any: their consumers find producers through the cluster.
//! docs/testing.md says how to install them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use support::consumer::{Consumer, find_old_and_new_nsqds};
use support::real::find;

/// Whether the interpreter runs this, which loads a library; says so if it does not.
fn runs(interpreter: &str, flag: &str, load: &str) -> bool {
    let status = Command::new(interpreter)
        .args([flag, load])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let runs = status.is_ok_and(|status| status.success());
    if !runs {
        eprintln!("SKIPPED: `{interpreter} {flag} \"{load}\"` fails");
    }
    runs
}

/// One consumer that is told all members, one that is told a single one. The command is called
/// with the topic, a channel and the addresses.
fn finds_producers(command: &[&OsStr]) {
    let Some(nsqd) = find("nsqd") else { return };
    find_old_and_new_nsqds(&nsqd, |setting| {
        let start = |channel: &str, ports: &[u16]| {
            let mut consumer = Command::new(command[0]);
            consumer.args(&command[1..]).args(["orders", channel]);
            consumer.args(ports.iter().map(|port| format!("127.0.0.1:{port}")));
            Consumer::start(&mut consumer, setting.folder.join(channel))
        };
        vec![
            start("told_all", &setting.members),
            start("told_one", &[setting.survivor]),
        ]
    });
}

fn script_finds_producers(interpreter: &str, script: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    finds_producers(&[interpreter.as_ref(), folder.join(script).as_ref()]);
}

#[test]
fn gnsq_of_python() {
    if runs("python3", "-c", "import gnsq") {
        script_finds_producers("python3", "gnsq_consumer.py");
    }
}

#[test]
fn pynsq_of_python() {
    if runs("python3", "-c", "import nsq; nsq.Reader") {
        script_finds_producers("python3", "pynsq_consumer.py");
    }
}

#[test]
fn nsqjs_of_javascript() {
    if runs("node", "-e", "require('nsqjs')") {
        script_finds_producers("node", "nsqjs_consumer.js");
    }
}

#[test]
fn another_client() {
    match std::env::var_os("NSQ_CLIENT") {
        Some(program) => finds_producers(&[program.as_ref()]),
        None => eprintln!("SKIPPED: NSQ_CLIENT names no program"),
    }
}
