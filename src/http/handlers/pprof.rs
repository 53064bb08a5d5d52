//! Answers /debug/pprof: profiles for `go tool pprof`, at the paths where Go programs have them.

mod cpu;
mod encode;
mod heap;

use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::http::answer::Answer;
use crate::http::arguments::Arguments;
use crate::http::connection::client::Client;
use crate::http::error::{HttpError, ProfileError};

/// Default duration of a CPU profile in seconds, as in Go.
const SECONDS: u64 = 30;

/// Longest duration of a CPU profile in seconds.
const MOST_SECONDS: u64 = 300;

const INDEX: &str = "<!DOCTYPE html>
<title>/debug/pprof</title>
<h1>/debug/pprof</h1>
<p>For <code>go tool pprof http://THIS:PORT/debug/pprof/...</code>
<table>
<tr><td><a href=\"/debug/pprof/profile?seconds=30\">profile</a>
<td>where this member spends CPU time; <code>seconds</code> from 1 to 300, one at a time; the first
takes 200 MB of memory, of which 80 MB stay
<tr><td><a href=\"/debug/pprof/heap\">heap</a>
<td>where its memory was allocated: one allocation in 512 KiB is recorded with its stack
<tr><td><a href=\"/debug/pprof/cmdline\">cmdline</a>
<td>the command line, its words separated by NUL
</table>
<p>There is no allocs, block, goroutine, mutex, symbol, threadcreate or trace: they belong to Go's
runtime, which this program does not have. Symbols are in the profiles.
";

/// GET /debug/pprof: the list of profiles.
pub(in crate::http) async fn index() -> Answer {
    Answer::html(INDEX)
}

/// GET /debug/pprof/cmdline.
pub(in crate::http) async fn cmdline() -> Answer {
    let words: Vec<_> = std::env::args_os().collect();
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    Answer::text(words.join(&0))
}

/// GET /debug/pprof/profile. Takes as long as the client wants, and some more to resolve symbols.
///
/// # Errors
/// [`HttpError::Profile`].
pub(in crate::http) async fn profile(
    client: Client,
    arguments: Arguments,
) -> Result<Answer, HttpError> {
    let seconds = seconds(&arguments).ok_or(ProfileError::Seconds)?;
    let profile = tokio::select! {
        profile = cpu::profile(Duration::from_secs(seconds)) => profile?,
        // As in Go. Otherwise the next client could not take a profile for up to five minutes.
        () = client.closed() => return Err(ProfileError::Left.into()),
    };
    Ok(Answer::profile("profile", profile))
}

/// GET /debug/pprof/heap.
///
/// # Errors
/// [`HttpError::Profile`].
pub(in crate::http) async fn heap() -> Result<Answer, HttpError> {
    Ok(Answer::profile("heap", heap::profile().await?))
}

fn seconds(arguments: &Arguments) -> Option<u64> {
    let Some(text) = arguments.get("seconds") else {
        return Some(SECONDS);
    };
    let seconds = text.parse().ok();
    seconds.filter(|seconds| (1..=MOST_SECONDS).contains(seconds))
}

fn failed(error: &dyn Display) -> ProfileError {
    tracing::warn!(%error, "no profile");
    ProfileError::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long() {
        for (query, expected) in [
            ("", Some(30)),
            ("seconds=1", Some(1)),
            ("seconds=300", Some(300)),
            ("seconds=301", None),
            ("seconds=0", None),
            ("seconds=-1", None),
            ("seconds=1.5", None),
            ("seconds=", None),
            ("seconds=99999999999999999999", None),
        ] {
            assert_eq!(
                seconds(&Arguments::parse(query).unwrap()),
                expected,
                "{query}"
            );
        }
    }
}
