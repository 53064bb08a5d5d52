//! Plays openraft: makes calls, drops them, and makes them again.

use super::*;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};

use openraft::EntryPayload;
use tokio::sync::oneshot;

use crate::types::{Entry, LeaderId};

type Outcome = Result<Answer, String>;

/// A follower that answers when told to.
#[derive(Clone, Default)]
struct Follower(Rc<RefCell<Vec<Asked>>>);

struct Asked {
    entries: usize,
    committed: Option<LogId>,
    answer: Option<oneshot::Sender<Outcome>>,
}

impl Follower {
    fn call(&self, request: Append) -> Calling<String> {
        let (answer, answered) = oneshot::channel();
        self.0.borrow_mut().push(Asked {
            entries: request.entries.len(),
            committed: request.leader_commit,
            answer: Some(answer),
        });
        Box::pin(async move { answered.await.unwrap() })
    }

    /// How many entries each call had.
    fn calls(&self) -> Vec<usize> {
        self.0.borrow().iter().map(|asked| asked.entries).collect()
    }

    fn answers(&self, call: usize, outcome: Outcome) {
        let answer = self.0.borrow_mut()[call].answer.take();
        answer.unwrap().send(outcome).unwrap();
    }

    fn is_dropped(&self, call: usize) -> bool {
        self.0.borrow()[call].answer.as_ref().unwrap().is_closed()
    }
}

/// Waits for the answer for a moment, then drops the request.
fn attempt(
    calls: &mut AppendCalls<String>,
    follower: &Follower,
    request: Append,
) -> Option<Outcome> {
    let attempt = calls.append(request, |request| follower.call(request));
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(attempt).poll(&mut context) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn id(index: u64) -> LogId {
    LogId::new(LeaderId::new(1, 1), index)
}

/// Entries up to this one, after entry 5.
fn upto(last: u64) -> Append {
    let entries = (6..=last).map(|index| Entry {
        log_id: id(index),
        payload: EntryPayload::Blank,
    });
    Append {
        vote: Vote::new_committed(1, 1),
        prev_log_id: Some(id(5)),
        entries: entries.collect(),
        leader_commit: Some(id(5)),
    }
}

#[test]
fn a_repetition_gets_the_answer_to_the_first_call() {
    let (mut calls, follower) = (AppendCalls::default(), Follower::default());
    for _ in 0..5 {
        assert_eq!(attempt(&mut calls, &follower, upto(7)), None);
    }
    assert_eq!(follower.calls(), [2, 0], "one heartbeat meanwhile");
    follower.answers(1, Ok(Answer::Success));
    assert_eq!(attempt(&mut calls, &follower, upto(7)), None);
    assert_eq!(attempt(&mut calls, &follower, upto(7)), None);
    assert_eq!(follower.calls(), [2, 0, 0], "the next heartbeat");
    follower.answers(0, Ok(Answer::Success));
    let answer = attempt(&mut calls, &follower, upto(7));
    assert_eq!(answer, Some(Ok(Answer::Success)));
    assert_eq!(
        attempt(&mut calls, &follower, upto(7)),
        None,
        "nothing is left over"
    );
    assert_eq!(follower.calls(), [2, 0, 0, 2]);
}

#[test]
fn a_repetition_that_asks_for_more_learns_what_is_there() {
    let (mut calls, follower) = (AppendCalls::default(), Follower::default());
    assert_eq!(attempt(&mut calls, &follower, upto(7)), None);
    follower.answers(0, Ok(Answer::Success));
    let answer = attempt(&mut calls, &follower, upto(9));
    assert_eq!(answer, Some(Ok(Answer::PartialSuccess(Some(id(7))))));
}

#[test]
fn what_asks_for_something_else_is_a_call_of_its_own() {
    let other_vote = Append {
        vote: Vote::new_committed(2, 1),
        ..upto(7)
    };
    let elsewhere = Append {
        prev_log_id: Some(id(4)),
        ..upto(7)
    };
    for other in [other_vote, elsewhere, upto(6)] {
        let (mut calls, follower) = (AppendCalls::default(), Follower::default());
        assert_eq!(attempt(&mut calls, &follower, upto(7)), None);
        assert_eq!(attempt(&mut calls, &follower, other), None);
        assert!(follower.is_dropped(0));
        follower.answers(1, Ok(Answer::Conflict));
    }
}

#[test]
fn heartbeats_pass_entries_and_tell_what_is_committed() {
    let (mut calls, follower) = (AppendCalls::default(), Follower::default());
    assert_eq!(attempt(&mut calls, &follower, upto(7)), None);
    assert_eq!(attempt(&mut calls, &follower, upto(5)), None);
    let newer = Append {
        leader_commit: Some(id(6)),
        ..upto(5)
    };
    assert_eq!(attempt(&mut calls, &follower, newer), None);
    assert_eq!(follower.calls(), [2, 0, 0]);
    assert_eq!(follower.0.borrow()[2].committed, Some(id(6)));
    assert!(follower.is_dropped(1) && !follower.is_dropped(0));
}

#[test]
fn a_higher_vote_and_a_failure_are_told_at_once() {
    let (mut calls, follower) = (AppendCalls::default(), Follower::default());
    assert_eq!(attempt(&mut calls, &follower, upto(7)), None);
    assert_eq!(attempt(&mut calls, &follower, upto(7)), None);
    let higher = || Ok(Answer::HigherVote(Vote::new(2, 3)));
    follower.answers(1, higher());
    assert_eq!(attempt(&mut calls, &follower, upto(7)), Some(higher()));
    follower.answers(0, Err("lost".into()));
    assert_eq!(
        attempt(&mut calls, &follower, upto(7)),
        Some(Err("lost".into()))
    );
}
