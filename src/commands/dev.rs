//! Runs `raftlookupd dev`: a whole cluster on this machine, to try things out and to break it.
//!
//! Every member is a process of its own, so `kill -9` does to it what it does in production. A
//! [`Plan`] (pure) says what to start; `process` and `watch` observe, and the `story` (pure) turns
//! that into lines for the user, which `screen` prints.
//!
//! Members started by this process end with it, however it ends: each reads a pipe whose writing end
//! only this process has. It never restarts a member by itself, but prints the command that does.

mod args;
mod plan;
mod process;
mod screen;
mod story;
mod watch;

use std::ffi::OsString;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::clap_text::{Request, parse};
use crate::error::{Error, Result};
use crate::signals::{stop_when_told, stopped};

pub use plan::Plan;
use screen::Screen;
use story::Story;

/// Reads the words after `dev`.
///
/// # Errors
/// [`Error::Usage`] if the flags are wrong, [`Error::Dev`] if they cannot be carried out.
pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Request<Plan>> {
    Ok(match parse(words)? {
        Request::Help(text) => Request::Help(text),
        Request::Run(args) => Request::Run(Plan::new(args)?),
    })
}

/// Starts the cluster and reports what happens to it, until a signal stops everything.
///
/// # Errors
/// [`Error::Dev`] if a port is taken or no member could be started.
pub async fn run(plan: Plan) -> Result<()> {
    plan.check_ports()?;
    plan.remember()?;
    let mut stop = stop_when_told(false)?;
    let screen = Screen::new(&plan);
    let started: Result<Vec<_>> = plan
        .members
        .iter()
        .map(|place| process::start(&plan, place))
        .collect();
    let started = started?;
    let pids: Vec<u32> = started.iter().map(|process| process.pid).collect();
    screen.block(&plan.table(&pids));
    screen.block(&plan.commands(&pids));
    let mut processes = JoinSet::new();
    for (index, process) in started.into_iter().enumerate() {
        processes.spawn(process.tend(index, screen.clone(), stop.clone()));
    }

    let mut story = Story::new(&plan, &pids);
    let (seen, mut sightings) = mpsc::channel(1);
    let watching = tokio::spawn(watch::watch(plan.http_ports(), seen));
    let all_ended = loop {
        let lines = tokio::select! {
            Some(ended) = processes.join_next() => match ended {
                Ok((index, how)) => story.ended(index, &how),
                // Only at the end of the runtime.
                Err(_) => Vec::new(),
            },
            Some(sighting) = sightings.recv() => story.seen(&sighting),
            () = stopped(&mut stop) => break false,
        };
        lines.iter().for_each(|line| screen.say(line));
        if processes.is_empty() && !story.ever_ready() {
            break true;
        }
    };
    watching.abort();
    if all_ended {
        return Err(Error::Dev(
            "no member could run; see the lines above".into(),
        ));
    }
    screen.say("stopping all members");
    while processes.join_next().await.is_some() {}
    story.left_over().iter().for_each(|line| screen.say(line));
    let again = format!("stopped; the data stays in {}", plan.data_path.display());
    screen.say(&again);
    Ok(())
}
