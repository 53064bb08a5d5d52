//! Keeps an AppendEntries call going for longer than openraft 0.9 waits for it.
//!
//! openraft gives a follower one heartbeat interval to answer, drops the call, and makes it again.
//! If that were all, a follower whose disk or link takes longer could never answer. So a call
//! outlives the one who made it, and when openraft repeats it, the repetition waits for the answer
//! to the first. Heartbeats go on meanwhile: the follower must not stand for election, and the
//! leader must know that it is still followed.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use raftlookupd_storage::registration::MemberId;

use crate::types::{LogId, TypeConfig, Vote};

/// A call that is under way.
pub(crate) type Calling<E> = Pin<Box<dyn Future<Output = Result<Answer, E>> + Send>>;

type Answer = AppendEntriesResponse<MemberId>;
type Append = AppendEntriesRequest<TypeConfig>;

/// The calls to one follower that are under way: at most one with entries, and one without.
///
/// They only advance while [`append`](Self::append) is awaited, and end with this.
pub(crate) struct AppendCalls<E> {
    entries: Option<Pending<E>>,
    heartbeat: Option<Pending<E>>,
}

struct Pending<E> {
    range: Range,
    answer: Calling<E>,
}

/// What an AppendEntries asks the follower to have.
#[derive(Clone, Copy, PartialEq)]
struct Range {
    vote: Vote,
    /// Followed by the entries.
    previous: Option<LogId>,
    last: Option<LogId>,
    committed: Option<LogId>,
}

impl Range {
    fn of(request: &Append) -> Self {
        let last = request.entries.last().map(|entry| entry.log_id);
        Range {
            vote: request.vote,
            previous: request.prev_log_id,
            last: last.or(request.prev_log_id),
            committed: request.leader_commit,
        }
    }

    /// Whether an answer to this is an answer to a part of `other`.
    fn begins(&self, other: &Range) -> bool {
        self.vote == other.vote && self.previous == other.previous && self.last <= other.last
    }
}

impl<E> Default for AppendCalls<E> {
    fn default() -> Self {
        AppendCalls {
            entries: None,
            heartbeat: None,
        }
    }
}

impl<E> AppendCalls<E> {
    /// The answer to this request: to a call that is still under way if it asked for a part of the
    /// same, and to a new one otherwise. Dropped before it is ready, it leaves the call under way.
    ///
    /// # Errors
    /// Those of the call.
    pub(crate) async fn append(
        &mut self,
        request: Append,
        call: impl Fn(Append) -> Calling<E>,
    ) -> Result<Answer, E> {
        let range = Range::of(&request);
        if request.entries.is_empty() {
            self.beat(request, range, &call);
            let beaten = poll_fn(|context| poll(&mut self.heartbeat, context)).await;
            return beaten.1;
        }
        let joins = |pending: &Pending<E>| pending.range.begins(&range);
        if self.entries.as_ref().is_some_and(joins) {
            self.beat(
                heartbeat_before(&request),
                Range {
                    last: range.previous,
                    ..range
                },
                &call,
            );
        } else {
            let answer = call(request);
            self.entries = Some(Pending { range, answer });
        }
        poll_fn(|context| {
            if let Poll::Ready((asked, answer)) = poll(&mut self.entries, context) {
                return Poll::Ready(answer.map(|answer| answer_to(&range, &asked, answer)));
            }
            if let Poll::Ready((_, Ok(answer @ Answer::HigherVote(_)))) =
                poll(&mut self.heartbeat, context)
            {
                return Poll::Ready(Ok(answer));
            }
            Poll::Pending
        })
        .await
    }

    /// Makes a heartbeat, unless the same one is under way.
    fn beat(&mut self, request: Append, range: Range, call: impl Fn(Append) -> Calling<E>) {
        let joins = |pending: &Pending<E>| pending.range == range;
        if !self.heartbeat.as_ref().is_some_and(joins) {
            let answer = call(request);
            self.heartbeat = Some(Pending { range, answer });
        }
    }
}

/// What openraft would send if it had no entries.
fn heartbeat_before(request: &Append) -> Append {
    Append {
        vote: request.vote,
        prev_log_id: request.prev_log_id,
        entries: Vec::new(),
        leader_commit: request.leader_commit,
    }
}

/// What the answer to a call for `asked` says about `wanted`, of which it is a part.
fn answer_to(wanted: &Range, asked: &Range, answer: Answer) -> Answer {
    match answer {
        Answer::Success if asked.last < wanted.last => Answer::PartialSuccess(asked.last),
        other => other,
    }
}

/// The outcome of a call, which is over then; pending if there is none.
fn poll<E>(
    pending: &mut Option<Pending<E>>,
    context: &mut std::task::Context<'_>,
) -> Poll<(Range, Result<Answer, E>)> {
    let Some(calling) = pending else {
        return Poll::Pending;
    };
    let Poll::Ready(answer) = calling.answer.as_mut().poll(context) else {
        return Poll::Pending;
    };
    let range = calling.range;
    *pending = None;
    Poll::Ready((range, answer))
}

#[cfg(test)]
mod tests;
