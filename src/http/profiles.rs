//! /debug/pprof: what `go tool pprof` reads, as Go's servers offer it.

use std::time::Duration;

use pprof::ProfilerGuardBuilder;
use pprof::protos::Message;

use crate::http::answer::Answer;
use crate::http::query::Query;

/// Samples a second. Not a round number, so that it does not beat in time with something else.
const FREQUENCY: i32 = 99;

/// What Go takes where nothing else is asked for, in seconds.
const SECONDS: u64 = 30;

/// Nobody waits longer.
const MOST_SECONDS: u64 = 300;

/// Their code cannot be unwound from within a signal handler.
const NOT_UNWOUND: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

const INDEX: &str = "<html><head><title>/debug/pprof/</title></head><body>\n\
<p>Profiles for <code>go tool pprof</code>:</p>\n<ul>\n\
<li><a href='/debug/pprof/profile?seconds=30'>profile</a>: where processor time goes</li>\n\
<li><a href='/debug/pprof/heap'>heap</a>: what holds memory</li>\n\
<li><a href='/debug/pprof/cmdline'>cmdline</a>: how the program was started</li>\n</ul>\n\
<p>This is no Go program: there are no goroutines, and no profiles of them.</p>\n\
</body></html>\n";

/// GET /debug/pprof.
pub(super) fn index() -> Answer {
    Answer::html(INDEX)
}

/// GET /debug/pprof/cmdline: the arguments, separated by zero bytes.
pub(super) fn cmdline() -> Answer {
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    Answer::text(arguments.join("\0"))
}

/// GET and POST /debug/pprof/symbol: the profiles name their functions themselves.
pub(super) fn symbol() -> Answer {
    Answer::text("num_symbols: 0\n")
}

/// GET /debug/pprof/profile: processor time, for `?seconds=`. One at a time.
pub(super) async fn profile(query: &Query) -> Answer {
    let asked = query.get("seconds").and_then(|text| text.parse().ok());
    let seconds = asked.filter(|seconds| *seconds > 0).unwrap_or(SECONDS);
    let duration = Duration::from_secs(seconds.min(MOST_SECONDS));
    let profiler = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(&NOT_UNWOUND)
        .build();
    let profiler = match profiler {
        Ok(profiler) => profiler,
        Err(error) => return Answer::failure(format!("Could not enable CPU profiling: {error}")),
    };
    tokio::time::sleep(duration).await;
    // Finding the names of functions takes a while.
    let made = tokio::task::spawn_blocking(move || {
        let profile = profiler.report().build()?.pprof()?;
        Ok::<_, pprof::Error>(profile.encode_to_vec())
    });
    match made.await {
        Ok(Ok(profile)) => Answer::download("profile", profile),
        Ok(Err(error)) => Answer::failure(error.to_string()),
        Err(error) => Answer::failure(error.to_string()),
    }
}

/// GET /debug/pprof/heap: a sample of what is allocated now.
pub(super) async fn heap() -> Answer {
    let Some(control) = jemalloc_pprof::PROF_CTL.as_ref() else {
        return Answer::failure("this build does not sample its memory".into());
    };
    let mut control = control.clone().lock_owned().await;
    let dumped = tokio::task::spawn_blocking(move || control.dump_pprof()).await;
    match dumped {
        Ok(Ok(profile)) => Answer::download("heap", profile),
        Ok(Err(error)) => Answer::failure(error.to_string()),
        Err(error) => Answer::failure(error.to_string()),
    }
}
