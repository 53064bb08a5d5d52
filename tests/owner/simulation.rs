//! Three owners, their registries, a log, nsqds and faults, in one thread and virtual time.
//!
//! Everything follows from a seed: [`actions`] draws what is done and when, [`world`] runs it for
//! 100 seconds, repairs all, and lets it come to rest. [`checks`] has the properties, measured
//! against an oracle ([`words`]) that looks at the outside only:
//!
//! - An acknowledged REGISTER is in the registry from then on: while its session is open, nobody
//!   gives the name up or deletes it, and its member is not away.
//! - A member that works has recorded what its open sessions say, and nothing else, within seconds;
//!   no routine check ever finds anything to repair.
//! - What every present member has withdrawn is gone in time; a living nsqd loses nothing that it
//!   has not given up, and is back before its grace period is over.
//! - Ephemeral names go with their last claim.
//! - All registries are equal at equal positions of the log.
//! - At rest each nsqd is listed for exactly what its open sessions say, nothing is undecided, and
//!   the log does not grow.
//!
//! `SIM_SEEDS=50000 cargo test --release --test owner simulation -- --nocapture` takes more seeds
//! than usual, from `SIM_FIRST` on; with `SIM_ALL` it does not stop at the first that fails.
//! `SIM_SEED=7` shows one: it is shortened to the actions that matter, and `SIM_TRACE` tells what
//! happens in it.

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

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Instant;

use actions::{Timed, Weather, draw};

/// Seeds that every run of the tests takes: some seconds without optimization.
const SEEDS: u64 = 200;

/// What went wrong with a seed.
pub struct Failure {
    pub kind: String,
    pub text: String,
}

thread_local! {
    static EXPECTS_PANIC: Cell<bool> = const { Cell::new(false) };
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
    quietly(run).unwrap_or_else(|text| {
        Some(Failure {
            kind: "panic".into(),
            text,
        })
    })
}

/// What a panic said, without the usual noise.
fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !EXPECTS_PANIC.get() {
                usual(panic);
            }
        }));
    });
    EXPECTS_PANIC.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    EXPECTS_PANIC.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        text.unwrap_or_default()
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

#[test]
fn what_is_recorded_is_what_open_sessions_say() {
    if let Some(seed) = number("SIM_SEED") {
        return show(seed);
    }
    let first = number("SIM_FIRST").unwrap_or(0);
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let began = Instant::now();
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        if let Some(Failure { kind, text }) = failure_of(Weather::of(seed), &draw(seed)) {
            println!("seed {seed}: {kind}: {text}");
            failed.push(seed);
            if !is_set("SIM_ALL") {
                break;
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{seeds} seeds in {took:.1} s, {} failed", failed.len());
    if let Some(seed) = failed.first() {
        show(*seed);
        panic!("seed {seed} does not fail every time");
    }
}

/// Shows the shortest list of actions that fails like this seed does.
fn show(seed: u64) {
    let weather = Weather::of(seed);
    let Some(Failure { kind, text }) = failure_of(weather, &draw(seed)) else {
        println!("seed {seed} does not fail");
        return;
    };
    let (weather, actions) = shrink::shrink(weather, draw(seed), &kind);
    println!("seed {seed} fails: {kind}: {text}\n{weather:?}");
    for (at, action) in &actions {
        println!("{:4}.{:03} {action}", at / 1000, at % 1000);
    }
    if is_set("SIM_TRACE")
        && let Ok(world) = quietly(|| world::run(weather, actions, true))
    {
        for line in world.trace.into_iter().flatten() {
            println!("{line}");
        }
    }
    panic!("SIM_SEED={seed} SIM_TRACE=1 cargo test --test owner simulation -- --nocapture");
}
