//! Measures raftlookupd, and the programs that it is compared with by the same work.
//!
//! - The command line: `cli`. What is measured: `targets`, and `clients` that speak with them.
//! - How: `load` (closed and open loops), `metronome`, `latency`.
//! - The work: `workloads`, on registries of a `size` that `nsqds` have registered. A `stage`
//!   takes their `figures`.
//! - What is told: `report`, with the project's promises in `report::goals`.
//!
//! Everything runs on one thread: the machine's other cores are left to what is measured.

mod cli;
mod clients;
mod error;
mod figures;
mod latency;
mod load;
mod metronome;
mod nsqds;
mod report;
mod size;
mod stage;
mod targets;
mod workloads;

use std::future::pending;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use cli::Args;
use error::{Error, Result};
use figures::{Measurand, summarize};
use report::goals::judge;
use report::json::Report;
use report::machine::Machine;
use report::text;
use stage::Stage;
use targets::Target;
use targets::spec::Spec;
use workloads::Scenario;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let specs = match args.targets() {
        Ok(specs) => specs,
        Err(reason) => {
            eprintln!("{reason}");
            return ExitCode::from(2);
        }
    };
    let scenarios = Scenario::all(&args.size);
    if args.list {
        for scenario in scenarios {
            println!("{scenario}: {}", scenario.workloads().join(", "));
        }
        return ExitCode::SUCCESS;
    }
    // Whatever ends first: when this is dropped, all that was started is killed.
    let outcome = tokio::select! {
        outcome = measure(&args, &specs, &scenarios) => outcome,
        code = stopped() => return ExitCode::from(code),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGINT or SIGTERM; the exit code that says so.
async fn stopped() -> u8 {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => 130,
        _ = terminated.recv() => 143,
    }
}

/// Runs every scenario on every target in turn, again and again, and tells what came out.
async fn measure(args: &Args, specs: &[Spec], scenarios: &[Scenario]) -> Result<()> {
    let options = args.options();
    let mut figures = Vec::new();
    let mut failures = 0;
    for repetition in 1..=args.repeat {
        for scenario in scenarios {
            for (position, spec) in specs.iter().enumerate() {
                let kind = Target::kind_of(spec).await?;
                if !scenario.applies(kind, spec.is_ours(), &options) {
                    continue;
                }
                let heading = format!("{repetition}/{}: {scenario}, {}", args.repeat, spec.name());
                println!("{heading}");
                let mut stage = Stage {
                    target: Target::start(spec, kind, &args.folder).await?,
                    size: scenario.size(),
                    of: Measurand {
                        kind,
                        target: position,
                    },
                    options: &options,
                    figures: &mut figures,
                };
                if let Err(error) = scenario.run(&mut stage).await {
                    // The other figures are worth having all the same.
                    eprintln!("{heading}: {error}");
                    failures += 1;
                }
            }
        }
    }
    let targets: Vec<String> = specs.iter().map(Spec::name).collect();
    let summaries = summarize(&figures);
    let promises = judge(&summaries);
    let closed_loop = options.rate.is_none();
    print!(
        "{}",
        text::tables(&targets, &summaries, &promises, closed_loop)
    );
    if let Some(path) = &args.json {
        let report = Report {
            machine: Machine::look(),
            arguments: std::env::args().skip(1).collect(),
            targets: &targets,
            repetitions: args.repeat as usize,
            kind_of_loop: if closed_loop { "closed" } else { "open" },
            figures: &summaries,
            promises: &promises,
        };
        report.write(path)?;
    }
    match failures {
        0 => Ok(()),
        failures => Err(Error::Incomplete(failures)),
    }
}
