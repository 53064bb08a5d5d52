//! Stops the process when a signal asks for it.

use std::io::Read;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Error, Result};

/// The exit code of a Go program after SIGQUIT.
const QUIT: i32 = 2;

/// Becomes true at SIGTERM or SIGINT, or, if asked for, when standard input ends. A second signal
/// ends the process at once, without losing anything acknowledged. As upstream, SIGQUIT ends it with
/// exit code 2, and SIGUSR1 and SIGUSR2, which log rotation sends, do nothing. Must be called within
/// a Tokio runtime.
///
/// # Errors
/// [`Error::System`] if the system does not let us handle signals.
pub fn stop_when_told(on_stdin_eof: bool) -> Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut quit = handler(SignalKind::quit())?;
    // Tokio keeps a handler once it is installed.
    for harmless in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
        drop(handler(harmless)?);
    }
    if on_stdin_eof {
        let stop = stop.clone();
        // Not a task: the runtime would wait for its read when it ends.
        std::thread::spawn(move || {
            drain_stdin();
            stop.send_replace(true);
        });
    }
    tokio::spawn(async move {
        for repeated in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => std::process::exit(QUIT),
            }
            if repeated {
                // The first signal already asked for this.
                std::process::exit(0);
            }
            stop.send_replace(true);
        }
    });
    Ok(stopped)
}

/// From now on SIGHUP does nothing. For a member only: `dev` has to end with its terminal. Must be
/// called within a Tokio runtime.
///
/// # Errors
/// As [`stop_when_told`].
pub fn ignore_hangup() -> Result<()> {
    handler(SignalKind::hangup()).map(drop)
}

/// Resolves when the process should stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // The sender is gone, so it can no longer become true.
        std::future::pending::<()>().await;
    }
}

fn handler(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|source| Error::System {
        action: "handle signals",
        source,
    })
}

fn drain_stdin() {
    let mut ignored = [0; 1024];
    let mut stdin = std::io::stdin().lock();
    while matches!(stdin.read(&mut ignored), Ok(1..)) {}
}
