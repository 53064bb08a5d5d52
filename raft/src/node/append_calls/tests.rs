//! Plays openraft: makes calls, drops them, and makes them again.

use super::*;
use std::sync::Mutex;
use std::task::Waker;

use openraft::EntryPayload;
use tokio::sync::oneshot;

use crate::types::{Entry, LeaderId};

type Outcome = Result<Answer, String>;

/// A follower that answers when told to, and who calls it.
struct Scene {
    asked: Arc<Mutex<Vec<Asked>>>,
    calls: AppendCalls<String>,
}

struct Asked {
    entries: usize,
    committed: Option<LogId>,
    answer: Option<oneshot::Sender<Outcome>>,
}

impl Scene {
    fn new() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let follower = asked.clone();
        let caller = move |request: Append| -> Calling<String> {
            let (answer, answered) = oneshot::channel();
            follower.lock().unwrap().push(Asked {
                entries: request.entries.len(),
                committed: request.leader_commit,
                answer: Some(answer),
            });
            Box::pin(async move { answered.await.unwrap() })
        };
        Scene {
            asked,
            calls: AppendCalls::new(Arc::new(caller)),
        }
    }

    /// Waits for the answer for a moment, then drops the request.
    async fn attempt(&mut self, request: Append) -> Option<Outcome> {
        let outcome = {
            let mut attempt = std::pin::pin!(self.calls.append(request));
            let mut context = Context::from_waker(Waker::noop());
            attempt.as_mut().poll(&mut context)
        };
        self.settle().await;
        match outcome {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    /// Lets the heartbeats' tasks run.
    async fn settle(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    /// How many entries each call had.
    fn calls(&self) -> Vec<usize> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|asked| asked.entries).collect()
    }

    fn committed(&self, call: usize) -> Option<LogId> {
        self.asked.lock().unwrap()[call].committed
    }

    async fn answers(&self, call: usize, outcome: Outcome) {
        let answer = self.asked.lock().unwrap()[call].answer.take();
        answer.unwrap().send(outcome).unwrap();
        self.settle().await;
    }

    fn is_dropped(&self, call: usize) -> bool {
        let asked = self.asked.lock().unwrap();
        asked[call].answer.as_ref().unwrap().is_closed()
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

/// A heartbeat that tells that entries up to this one are committed.
fn heartbeat(committed: u64) -> Append {
    Append {
        leader_commit: Some(id(committed)),
        ..upto(5)
    }
}

fn success() -> Option<Outcome> {
    Some(Ok(Answer::Success))
}

#[tokio::test]
async fn a_repetition_gets_the_answer_to_the_first_call() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        assert_eq!(scene.attempt(upto(7)).await, None);
    }
    assert_eq!(scene.calls(), [2, 0], "and a heartbeat meanwhile");
    scene.answers(0, Ok(Answer::Success)).await;
    assert_eq!(scene.attempt(upto(7)).await, success());
    assert_eq!(scene.attempt(upto(7)).await, None, "nothing is left over");
    assert_eq!(scene.calls(), [2, 0, 0, 2]);
}

#[tokio::test]
async fn a_repetition_that_asks_for_more_learns_what_is_there() {
    let mut scene = Scene::new();
    assert_eq!(scene.attempt(upto(7)).await, None);
    scene.answers(0, Ok(Answer::Success)).await;
    let answer = scene.attempt(upto(9)).await;
    assert_eq!(answer, Some(Ok(Answer::PartialSuccess(Some(id(7))))));
}

#[tokio::test]
async fn what_asks_for_something_else_is_a_call_of_its_own() {
    let other_vote = Append {
        vote: Vote::new_committed(2, 1),
        ..upto(7)
    };
    let elsewhere = Append {
        prev_log_id: Some(id(4)),
        ..upto(7)
    };
    for other in [other_vote, elsewhere, upto(6)] {
        let mut scene = Scene::new();
        assert_eq!(scene.attempt(upto(7)).await, None);
        assert_eq!(scene.attempt(other).await, None);
        assert!(scene.is_dropped(0) && !scene.is_dropped(1));
    }
}

#[tokio::test]
async fn a_connection_without_entries_waits_for_the_follower() {
    let mut scene = Scene::new();
    assert_eq!(scene.attempt(heartbeat(5)).await, None);
    assert!(scene.is_dropped(0));
    assert_eq!(scene.attempt(heartbeat(5)).await, None);
    assert_eq!(scene.calls(), [0, 0]);
}

/// A follower that has acknowledged entries, and is asked for them again.
async fn acknowledged() -> Scene {
    let mut scene = Scene::new();
    assert_eq!(scene.attempt(upto(7)).await, None);
    scene.answers(0, Ok(Answer::Success)).await;
    assert_eq!(scene.attempt(upto(7)).await, success());
    scene.asked.lock().unwrap().clear();
    assert_eq!(scene.attempt(upto(7)).await, None);
    scene
}

#[tokio::test]
async fn what_was_not_acknowledged_is_not_claimed() {
    let mut scene = acknowledged().await;
    let ahead = Append {
        prev_log_id: Some(id(8)),
        ..heartbeat(8)
    };
    assert_eq!(scene.attempt(ahead).await, None);
    assert_eq!(scene.attempt(heartbeat(8)).await, success());
}

#[tokio::test]
async fn heartbeats_hold_nothing_up() {
    let mut scene = acknowledged().await;
    for committed in 10..20 {
        assert_eq!(scene.attempt(heartbeat(committed)).await, success());
    }
    assert_eq!(scene.calls(), [2, 0, 0, 0, 0], "so many at once");
    scene.answers(3, Err("lost".into())).await;
    assert_eq!(scene.calls().len(), 6);
    assert_eq!(scene.committed(5), Some(id(19)), "the last one");
    scene.answers(5, Ok(Answer::Success)).await;
    assert_eq!(scene.calls().len(), 6);
    drop(scene.calls);
    tokio::task::yield_now().await;
    let asked = scene.asked.lock().unwrap();
    let mut waiting = asked.iter().filter_map(|asked| asked.answer.as_ref());
    assert!(waiting.all(oneshot::Sender::is_closed));
}

#[tokio::test]
async fn a_higher_vote_and_a_failure_are_told() {
    let mut scene = Scene::new();
    assert_eq!(scene.attempt(upto(7)).await, None);
    scene.answers(0, Err("lost".into())).await;
    assert_eq!(scene.attempt(upto(7)).await, Some(Err("lost".into())));
    assert_eq!(scene.attempt(upto(7)).await, None);
    let higher = || Ok(Answer::HigherVote(Vote::new(2, 3)));
    scene.answers(1, higher()).await;
    assert_eq!(scene.attempt(upto(7)).await, Some(higher()));
}
