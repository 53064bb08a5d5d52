//! Takes CPU profiles: a signal interrupts the running thread a hundred times in each second of CPU
//! time, and its stack is recorded.

use std::time::Duration;

use pprof::protos::{Mapping, Profile};
use pprof::{Error, ProfilerGuard, ProfilerGuardBuilder};
use tokio::runtime::Handle;

use super::encode::{encode, intern};
use super::failed;
use crate::http::error::ProfileError;

/// Stacks per second of CPU time, as Go's runtime takes them.
const FREQUENCY: i32 = 100;

/// Code that is not sampled, since it may hold locks that unwinding a stack needs as well.
const LEFT_ALONE: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// The profiler's own frames, the innermost of each stack, which readers drop.
const PROFILER: &str = "perf_signal_handler|.*pprof::backtrace::.*";

/// Samples the whole process for this time, or until the future is dropped.
///
/// # Errors
/// [`ProfileError::CpuInUse`], [`ProfileError::Failed`].
pub(super) async fn profile(duration: Duration) -> Result<Vec<u8>, ProfileError> {
    // The first start reads the program's symbols, which takes a moment.
    let guard = tokio::task::spawn_blocking(start).await;
    let running = Running::new(guard.map_err(|error| failed(&error))??);
    tokio::time::sleep(duration).await;
    let profile = tokio::task::spawn_blocking(move || running.finish()).await;
    profile.map_err(|error| failed(&error))?
}

/// A profile that is being taken, until it is dropped.
struct Running {
    guard: Option<ProfilerGuard<'static>>,
    runtime: Handle,
}

impl Running {
    fn new(guard: ProfilerGuard<'static>) -> Self {
        Running {
            guard: Some(guard),
            runtime: Handle::current(),
        }
    }

    fn finish(mut self) -> Result<Vec<u8>, ProfileError> {
        self.guard
            .take()
            .map_or(Err(ProfileError::Failed), |guard| finish(&guard))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            // Resetting the profiler's tables takes too long for a thread that serves sockets.
            self.runtime.spawn_blocking(move || drop(guard));
        }
    }
}

fn start() -> Result<ProfilerGuard<'static>, ProfileError> {
    let builder = ProfilerGuardBuilder::default().frequency(FREQUENCY);
    builder
        .blocklist(&LEFT_ALONE)
        .build()
        .map_err(|error| match error {
            Error::Running => ProfileError::CpuInUse,
            error => failed(&error),
        })
}

fn finish(guard: &ProfilerGuard<'_>) -> Result<Vec<u8>, ProfileError> {
    let profile = guard.report().build().and_then(|report| report.pprof());
    let mut profile = profile.map_err(|error| failed(&error))?;
    name_program(&mut profile);
    encode(profile, PROFILER).map_err(|error| failed(&error))
}

/// Adds the program's path, which `go tool pprof` shows, and warns about if it is missing.
fn name_program(profile: &mut Profile) {
    let path = std::env::current_exe().unwrap_or_default();
    profile.mapping = vec![Mapping {
        id: 1,
        filename: intern(profile, &path.to_string_lossy()),
        ..Mapping::default()
    }];
    for location in &mut profile.location {
        location.mapping_id = 1;
    }
}
