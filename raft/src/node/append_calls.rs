//! Makes openraft's AppendEntries calls to one follower, on other terms than openraft 0.9 does.
//!
//! - **Entries** get more time. openraft gives a follower one heartbeat interval to answer, drops
//!   the call, and makes it again, so a follower whose disk or link takes longer could never answer.
//!   Here a call outlives the one who made it, and its repetition waits for the same answer.
//! - **Heartbeats** hold nothing up. openraft sends a follower one message at a time, and after
//!   each commit a heartbeat that tells of it: the next entries would wait for the answer to that.
//!   Heartbeats also go on while entries take long, or the follower would stand for election.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::node::heartbeats::{Answer, Append, Caller, Calling, Heartbeats};
use crate::types::{LogId, Vote};

/// The calls to one follower. They end with this.
pub(crate) struct AppendCalls<E> {
    caller: Arc<Caller<E>>,
    /// With entries; only advances while an answer is awaited.
    pending: Option<Pending<E>>,
    /// The last entry that the follower has said it has.
    acknowledged: Option<LogId>,
    /// Begins with the first entries: a connection that has not carried any may be openraft's way
    /// to ask whether it still leads, and that has to be answered by the follower.
    heartbeats: Option<Heartbeats>,
}

struct Pending<E> {
    range: Range,
    answer: Calling<E>,
}

/// Which entries an AppendEntries asks the follower to have.
#[derive(Clone, Copy)]
struct Range {
    vote: Vote,
    /// Followed by the entries.
    previous: Option<LogId>,
    last: Option<LogId>,
}

impl Range {
    fn of(request: &Append) -> Self {
        let last = request.entries.last().map(|entry| entry.log_id);
        Range {
            vote: request.vote,
            previous: request.prev_log_id,
            last: last.or(request.prev_log_id),
        }
    }

    /// Whether an answer to this is an answer to a part of `other`.
    fn begins(&self, other: &Range) -> bool {
        self.vote == other.vote && self.previous == other.previous && self.last <= other.last
    }
}

impl<E: Send + 'static> AppendCalls<E> {
    pub(crate) fn new(caller: Arc<Caller<E>>) -> Self {
        AppendCalls {
            caller,
            pending: None,
            acknowledged: None,
            heartbeats: None,
        }
    }

    /// The answer to this request: to a call that is still under way if that asked for a part of
    /// the same, and to a new one otherwise. Dropped before it is ready, it leaves the call under way.
    ///
    /// # Errors
    /// Those of the call.
    pub(crate) async fn append(&mut self, request: Append) -> Result<Answer, E> {
        if request.entries.is_empty() {
            return match &self.heartbeats {
                Some(heartbeats) if request.prev_log_id <= self.acknowledged => {
                    Ok(self.beat(heartbeats, request))
                }
                _ => (self.caller)(request).await,
            };
        }
        let range = Range::of(&request);
        let joins = |pending: &Pending<E>| pending.range.begins(&range);
        if self.pending.as_ref().is_some_and(joins) {
            if let Some(heartbeats) = &self.heartbeats {
                self.beat(heartbeats, heartbeat_before(&request));
            }
        } else {
            let answer = (self.caller)(request);
            self.pending = Some(Pending { range, answer });
        }
        let heartbeats = self.heartbeats.get_or_insert_default();
        let (pending, acknowledged) = (&mut self.pending, &mut self.acknowledged);
        tokio::select! {
            biased;
            (asked, answer) = poll_fn(|context| poll(pending, context)) => {
                let answer = answer.map(|answer| answer_to(&range, &asked, answer))?;
                match &answer {
                    Answer::Success => *acknowledged = range.last.max(*acknowledged),
                    Answer::PartialSuccess(last) => *acknowledged = (*last).max(*acknowledged),
                    Answer::Conflict | Answer::HigherVote(_) => {}
                }
                Ok(answer)
            }
            vote = heartbeats.refused() => Ok(Answer::HigherVote(vote)),
        }
    }

    /// The follower has acknowledged all that this heartbeat claims, so nothing depends on its answer
    /// but whether it follows another leader.
    fn beat(&self, heartbeats: &Heartbeats, request: Append) -> Answer {
        match heartbeats.higher_vote() {
            Some(vote) => Answer::HigherVote(vote),
            None => {
                heartbeats.beat(request, &self.caller);
                Answer::Success
            }
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
    context: &mut Context<'_>,
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
