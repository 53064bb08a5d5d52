//! Three owners, their registries, a log, nsqds and faults, in one thread and virtual time.

mod actions;
mod agreement;
mod checks;
mod names;
mod node;
mod nsqd;
mod random;
mod shrink;
mod stranger;
mod wire;
mod words;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use actions::{Timed, Weather, draw};

/// Seeds that every run of the tests takes.
const SEEDS: u64 = 150;

/// What went wrong with a seed.
pub struct Failure {
    pub kind: String,
    pub text: String,
}

/// Runs a world; what went wrong, if anything did.
fn failure_of(weather: Weather, actions: &[Timed]) -> Option<Failure> {
    let run = || {
        let world = world::run(weather, actions.to_vec(), false);
        world.violation.map(|violation| Failure {
            kind: violation.kind.to_string(),
            text: violation.text,
        })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Some(Failure {
            kind: "panic".into(),
            text: text.unwrap_or_default(),
        })
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn what_is_recorded_is_what_open_sessions_say() {
    if let Some(seed) = number("SIM_SEED") {
        return report(seed);
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let all = std::env::var("SIM_ALL").is_ok();
    let began = Instant::now();
    let mut failed = Vec::new();
    std::panic::set_hook(Box::new(|_| {}));
    for seed in first..first + seeds {
        let weather = Weather::of(seed);
        if let Some(failure) = failure_of(weather, &draw(seed)) {
            failed.push((seed, failure));
            if !all {
                break;
            }
        }
    }
    drop(std::panic::take_hook());
    let took = began.elapsed().as_secs_f64();
    println!("{seeds} seeds in {took:.1} s, {} failed", failed.len());
    if all {
        for (seed, failure) in &failed {
            println!("seed {seed}: {}: {}", failure.kind, failure.text);
        }
    }
    if let Some((seed, _)) = failed.first() {
        report(*seed);
        panic!("SIM_SEED={seed} cargo test --test owner -- --nocapture shows it again");
    }
}

/// Prints the shortest script that fails like this seed does.
fn report(seed: u64) {
    let weather = Weather::of(seed);
    let Some(failure) = failure_of(weather, &draw(seed)) else {
        println!("seed {seed} does not fail");
        return;
    };
    println!("seed {seed} fails: {}: {}", failure.kind, failure.text);
    let (weather, actions) = shrink::shrink(weather, draw(seed), &failure.kind);
    println!("{weather:?}");
    for (at, action) in &actions {
        println!("{:4}.{:03} {action}", at / 1000, at % 1000);
    }
    if std::env::var("SIM_TRACE").is_ok() {
        let traced = catch_unwind(AssertUnwindSafe(|| world::run(weather, actions, true)));
        if let Ok(world) = traced {
            for line in world.trace.into_iter().flatten() {
                println!("{line}");
            }
        }
    }
    panic!("seed {seed} fails");
}
