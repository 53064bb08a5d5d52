//! Runs the program: reads the command line, runs until a signal, reports how it ended.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use raftlookupd::commands::migrate::Ended;
use raftlookupd::commands::{Chosen, Request, choose, cluster, dev, migrate, recover};
use raftlookupd::config::{self, Config, Invocation};
use raftlookupd::error::{Error, Result};
use raftlookupd::logging::{Log, LogSettings};
use raftlookupd::{signals, version};

/// Returns more of the memory of many small registrations, and can say who holds the rest.
#[cfg(feature = "heap-profile")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let ended = match choose(std::env::args_os().skip(1)) {
        Ok(Chosen::Member(words)) => return member(words),
        Ok(Chosen::Dev(words)) => dev::read(words).and_then(|request| run(request, dev::run)),
        Ok(Chosen::Migrate(words)) => return migration(words),
        Ok(Chosen::Cluster(words)) => {
            cluster::read(words).and_then(|request| run(request, cluster_command))
        }
        Ok(Chosen::Recover(words)) => {
            recover::read(words).and_then(|request| run(request, recover::run))
        }
        Ok(Chosen::Help) => {
            print(&mut std::io::stdout(), &config::usage());
            Ok(())
        }
        Ok(Chosen::Version) => {
            print(&mut std::io::stdout(), &version::lines());
            Ok(())
        }
        Err(error) => Err(error),
    };
    exit_code(fatal, ended)
}

/// Runs a member, unless its flags ask for help or the version.
fn member(words: Vec<OsString>) -> ExitCode {
    let hostname = gethostname::gethostname();
    match config::read(words, std::env::vars_os(), &hostname.to_string_lossy()) {
        Ok(Invocation::Help) => {
            print(&mut std::io::stderr(), &config::usage());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Version) => {
            print(&mut std::io::stdout(), &version::lines());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Member { config, warnings }) => {
            let settings = config.log.clone();
            let (log, end) = settings.start();
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            let ended = in_runtime(run_member(*config, log));
            exit_code(|reason| end.fatal(reason), ended)
        }
        Err(error) => failed(fatal, &error),
    }
}

async fn run_member(config: Config, log: Log) -> Result<()> {
    let stop = signals::stop_when_told(config.stop_on_stdin_eof)?;
    signals::ignore_hangup()?;
    raftlookupd::run(config, log, stop).await
}

async fn cluster_command(command: cluster::Cluster) -> Result<()> {
    Ok(cluster::run(command).await?)
}

fn migration(words: Vec<OsString>) -> ExitCode {
    let mut ended = Ended::Well;
    let command = async |command| {
        ended = migrate::run(command).await?;
        Ok(())
    };
    let result = migrate::read(words).and_then(|request| run(request, command));
    match (result, ended) {
        (Ok(()), Ended::Different) => ExitCode::from(1),
        (result, _) => exit_code(fatal, result),
    }
}

/// Prints help, or runs a command to its end.
fn run<T>(request: Request<T>, command: impl AsyncFnOnce(T) -> Result<()>) -> Result<()> {
    match request {
        Request::Help(text) => {
            print(&mut std::io::stdout(), &text);
            Ok(())
        }
        Request::Run(arguments) => in_runtime(command(arguments)),
    }
}

fn in_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Runtime::new().map_err(|source| Error::System {
        action: "start the runtime",
        source,
    })?;
    let ended = runtime.block_on(work);
    // Tasks that still block a thread must not delay the exit.
    runtime.shutdown_background();
    ended
}

fn exit_code(fatal: impl FnOnce(&str), result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(fatal, &error),
    }
}

/// Logs what goes wrong before the configuration is known.
fn fatal(reason: &str) {
    LogSettings::default().fatal(reason);
}

fn failed(fatal: impl FnOnce(&str), error: &Error) -> ExitCode {
    let mut stderr = std::io::stderr();
    match error {
        Error::UnknownFlag(_) => {
            print(&mut stderr, &format!("{error}\n{}", config::usage()));
        }
        Error::UnknownCommand(_) => {
            let text = format!("raftlookupd: {error}\n(see raftlookupd help)");
            print(&mut stderr, &text);
        }
        Error::Usage(_) | Error::Setting { .. } => {
            print(&mut stderr, &format!("{error}\n(see --help)"))
        }
        Error::Lookupd(_) | Error::NotCompared(_) | Error::Cluster(_) | Error::Recover(_) => {
            print(&mut stderr, &format!("raftlookupd: {error}"));
        }
        error => fatal(&error.to_string()),
    }
    ExitCode::from(error.exit_code())
}

/// Prints a text. If nobody reads it any longer, that is not a failure.
fn print(to: &mut dyn Write, text: &str) {
    let _ = writeln!(to, "{}", text.trim_end());
}
