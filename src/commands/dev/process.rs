//! Starts one member process, shows its output, and stops it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::plan::{Place, Plan};
use super::screen::Screen;
use super::watch::STATUS_TARGET;
use crate::error::{Error, Result};
use crate::signals::stopped;

/// How long a member may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// A running member.
pub(super) struct Process {
    pub(super) pid: u32,
    child: Child,
    /// The member stops when this is closed: by us, or by the system when this process ends.
    stdin: Option<ChildStdin>,
}

/// Starts a member.
pub(super) fn start(plan: &Plan, place: &Place) -> Result<Process> {
    let mut command = Command::new(&plan.program);
    for (name, _) in std::env::vars_os() {
        // Such variables are meant for a single member.
        if name.to_string_lossy().starts_with("RAFTLOOKUPD_") {
            command.env_remove(name);
        }
    }
    command
        .args(plan.flags(place))
        .args(["--log-prefix=", "--stop-on-stdin-eof"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in our terminal must reach only us: a second signal would end a member at once.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|source| Error::System {
        action: "start a member process",
        source,
    })?;
    Ok(Process {
        pid: child.id().unwrap_or(0),
        stdin: child.stdin.take(),
        child,
    })
}

impl Process {
    /// Shows the member's output until it ends, or is stopped because `stop` became true; returns how
    /// it ended.
    pub(super) async fn tend(
        mut self,
        index: usize,
        screen: Screen,
        mut stop: watch::Receiver<bool>,
    ) -> (usize, String) {
        let mut readers = JoinSet::new();
        if let Some(stdout) = self.child.stdout.take() {
            readers.spawn(show_lines(stdout, index, screen.clone()));
        }
        if let Some(stderr) = self.child.stderr.take() {
            readers.spawn(show_lines(stderr, index, screen));
        }
        let ended = tokio::select! {
            ended = self.child.wait() => Some(ended),
            () = stopped(&mut stop) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                self.stdin.take();
                match tokio::time::timeout(STOP, self.child.wait()).await {
                    Ok(ended) => ended,
                    Err(_) => match self.child.kill().await {
                        Ok(()) => self.child.wait().await,
                        Err(error) => Err(error),
                    },
                }
            }
        };
        // Its last lines come before ours about its end.
        readers.join_all().await;
        (index, describe(ended))
    }
}

fn describe(ended: std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match ended {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => format!("ended: {status}"),
        },
        Err(error) => format!("cannot be watched: {error}"),
    }
}

async fn show_lines(from: impl AsyncRead + Unpin, index: usize, screen: Screen) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(1..) = from.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        // Lines about our own requests would bury everything else.
        if !text.contains(STATUS_TARGET) {
            screen.member_line(index, text.trim_end());
        }
        line.clear();
    }
}
