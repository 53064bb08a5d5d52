//! /debug/pprof: profiles for `go tool pprof`, at the paths where Go's programs have them.

mod cpu;
mod encode;
mod heap;

use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::http::answer::Answer;
use crate::http::client::Client;
use crate::http::error::{HttpError, ProfileError};
use crate::http::query::Query;

/// How long a CPU profile takes, in seconds, if nothing is said; as Go has it.
const SECONDS: u64 = 30;

/// How long it may take at most.
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
<td>who holds its memory: one allocation in 512 KiB is noted with its stack
<tr><td><a href=\"/debug/pprof/cmdline\">cmdline</a>
<td>the command line, its words separated by NUL
</table>
<p>There is no allocs, block, goroutine, mutex, symbol, threadcreate or trace: they belong to Go's
runtime, which this program does not have. Symbols are in the profiles.
";

/// GET /debug/pprof: what there is.
pub(super) fn index() -> Answer {
    Answer::html(INDEX)
}

/// GET /debug/pprof/cmdline.
pub(super) fn cmdline() -> Answer {
    let words: Vec<_> = std::env::args_os().collect();
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    Answer::text(words.join(&0))
}

/// GET /debug/pprof/profile: takes as long as the caller wants, and then some to put names to
/// addresses.
///
/// # Errors
/// [`HttpError::Profile`].
pub(super) async fn profile(query: &Query, client: &Client) -> Result<Answer, HttpError> {
    let seconds = seconds(query).ok_or(ProfileError::Seconds)?;
    let profile = tokio::select! {
        profile = cpu::profile(Duration::from_secs(seconds)) => profile?,
        // As Go does it: the next client can take a profile.
        () = client.closed() => return Err(ProfileError::Left.into()),
    };
    Ok(Answer::profile("profile", profile))
}

/// GET /debug/pprof/heap.
///
/// # Errors
/// [`HttpError::Profile`].
pub(super) async fn heap() -> Result<Answer, HttpError> {
    Ok(Answer::profile("heap", heap::profile().await?))
}

fn seconds(query: &Query) -> Option<u64> {
    let Some(text) = query.get("seconds") else {
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
            assert_eq!(seconds(&Query::parse(query).unwrap()), expected, "{query}");
        }
    }
}
