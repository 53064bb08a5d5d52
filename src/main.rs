//! The program: reads what it is told, runs until a signal, says how it ended.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use raftlookupd::config::{self, Config, Invocation};
use raftlookupd::error::{Error, Result};
use raftlookupd::logging::{Log, LogSettings};
use raftlookupd::migrate::{self, Ended, Request};
use raftlookupd::{dev, signals, version};

/// Frees better what many small registrations held, and knows who holds what.
#[cfg(feature = "heap-profile")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).peekable();
    if words.next_if(|word| word == "dev").is_some() {
        return match dev::read(words) {
            Ok(plan) => ended(fatal, in_runtime(dev::run(plan))),
            Err(dev::NoPlan::Clap(answer)) => {
                // Help, or what is wrong with the flags.
                let _ = answer.print();
                ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(1))
            }
            Err(dev::NoPlan::Impossible(error)) => failed(fatal, &error),
        };
    }
    if words
        .peek()
        .is_some_and(|word| word == "import" || word == "diff")
    {
        return migrate(words);
    }
    let hostname = gethostname::gethostname();
    let variable = |name: &str| std::env::var_os(name);
    match config::read(words, variable, &hostname.to_string_lossy()) {
        Ok(Invocation::Help) => {
            print(&mut std::io::stderr(), &config::usage());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Version) => {
            print(&mut std::io::stdout(), &version::version_line());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Member { config, warnings }) => {
            let settings = config.log.clone();
            let (log, end) = settings.start();
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            ended(
                |reason| end.fatal(reason),
                in_runtime(run_member(*config, log)),
            )
        }
        Err(error) => failed(fatal, &error),
    }
}

fn migrate(words: impl Iterator<Item = OsString>) -> ExitCode {
    let ended = match migrate::read(words) {
        Ok(Request::Help(text)) => {
            print(&mut std::io::stdout(), &text);
            return ExitCode::SUCCESS;
        }
        Ok(Request::Run(command)) => in_runtime(migrate::run(command)),
        Err(error) => Err(error),
    };
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Different) => ExitCode::from(1),
        Err(error) => failed(fatal, &error),
    }
}

async fn run_member(config: Config, log: Log) -> Result<()> {
    let stop = signals::stop_when_told(config.stop_on_stdin_eof)?;
    raftlookupd::run(config, log, stop).await
}

fn in_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Runtime::new().map_err(|source| Error::System {
        action: "start the runtime",
        source,
    })?;
    let ended = runtime.block_on(work);
    // Whatever still blocks a thread must not hold up the end.
    runtime.shutdown_background();
    ended
}

fn ended(fatal: impl FnOnce(&str), result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(fatal, &error),
    }
}

/// For what goes wrong before the configuration is known.
fn fatal(reason: &str) {
    LogSettings::default().fatal(reason);
}

fn failed(fatal: impl FnOnce(&str), error: &Error) -> ExitCode {
    let mut stderr = std::io::stderr();
    match error {
        Error::UnknownFlag(_) => {
            print(&mut stderr, &format!("{error}\n{}", config::usage()));
        }
        Error::Usage(_) | Error::Setting { .. } => {
            print(&mut stderr, &format!("{error}\n(see --help)"))
        }
        Error::Lookupd(_) | Error::NotCompared(_) => {
            print(&mut stderr, &format!("raftlookupd: {error}"));
        }
        error => fatal(&error.to_string()),
    }
    ExitCode::from(error.exit_code())
}

/// Whoever should read this may be gone; that is no reason to fail.
fn print(to: &mut dyn Write, text: &str) {
    let _ = writeln!(to, "{}", text.trim_end());
}
