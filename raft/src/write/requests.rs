//! Queues events that are requested one by one, as over HTTP, in order and each with its own outcome.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use raftlookupd_storage::event::{Event, Refusal};
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Most bytes that may wait for a leader; requests beyond that are refused.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Most requests in one batch.
const BATCH_REQUESTS: usize = 256;

/// Bytes that a request takes besides its names, roughly.
const OVERHEAD: usize = 64;

pub(crate) type Fate = oneshot::Sender<std::result::Result<(), Refusal>>;

/// The fate of a request: `Ok` when it is committed.
#[derive(Debug)]
pub struct Pending {
    fate: oneshot::Receiver<std::result::Result<(), Refusal>>,
    number: u64,
    requests: Requests,
}

impl Pending {
    /// Gives up. `true` if the request was still waiting, and certainly will not be proposed.
    pub(crate) fn withdraw(self) -> bool {
        let mut queue = self.requests.queue();
        let position = queue
            .waiting
            .iter()
            .position(|waiting| waiting.number == self.number);
        let withdrawn = position.and_then(|position| queue.waiting.remove(position));
        queue.bytes -= withdrawn.as_ref().map_or(0, |waiting| waiting.bytes);
        withdrawn.is_some()
    }
}

impl Future for Pending {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.fate)
            .poll(context)
            .map(|fate| match fate {
                Ok(fate) => fate.map_err(Error::Refused),
                Err(_) => Err(Error::OutcomeUnknown),
            })
    }
}

/// The requests that wait. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    number: u64,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    bytes: usize,
    event: Event,
    fate: Fate,
}

impl Requests {
    /// # Errors
    /// [`Error::QueueFull`], [`Error::Stopping`]; the request does not wait then.
    pub(crate) fn push(&self, event: Event) -> Result<Pending> {
        let (fate, receiver) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closed {
            return Err(Error::Stopping);
        }
        let bytes = size_of(&event);
        if queue.bytes + bytes > QUEUE_BYTES {
            return Err(Error::QueueFull);
        }
        queue.bytes += bytes;
        queue.number += 1;
        let number = queue.number;
        queue.waiting.push_back(Waiting {
            number,
            bytes,
            event,
            fate,
        });
        Ok(Pending {
            fate: receiver,
            number,
            requests: self.clone(),
        })
    }

    /// The requests for the next batch, each with where its fate is reported.
    pub(crate) fn take(&self) -> (Vec<Event>, Vec<Fate>) {
        let mut queue = self.queue();
        let count = queue.waiting.len().min(BATCH_REQUESTS);
        let taken: Vec<Waiting> = queue.waiting.drain(..count).collect();
        queue.bytes -= taken.iter().map(|waiting| waiting.bytes).sum::<usize>();
        taken
            .into_iter()
            .map(|waiting| (waiting.event, waiting.fate))
            .unzip()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue().waiting.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue().closed
    }

    /// Takes no more requests.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Roughly what a request takes in memory and on the wire.
fn size_of(event: &Event) -> usize {
    let names = match event {
        Event::CreateChannel { topic, channel } | Event::DeleteChannel { topic, channel } => {
            topic.len() + channel.len()
        }
        Event::CreateTopic { topic } | Event::DeleteTopic { topic } => topic.len(),
        Event::Tombstone { topic, node, .. } => topic.len() + node.len(),
        // Not asked for over HTTP.
        _ => 1024,
    };
    names + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(topic: &str) -> Event {
        Event::CreateTopic {
            topic: topic.into(),
        }
    }

    #[test]
    fn who_gives_up_in_time_leaves_nothing_behind() {
        let requests = Requests::default();
        let first = requests.push(create("first")).unwrap();
        let second = requests.push(create("second")).unwrap();
        assert!(first.withdraw());
        let (events, _fates) = requests.take();
        assert_eq!(events, [create("second")]);
        assert!(!second.withdraw(), "it may be committed");
        assert_eq!(requests.queue().bytes, 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let requests = Requests::default();
        let mut kept = Vec::new();
        let refused = loop {
            match requests.push(create(&"t".repeat(64))) {
                Ok(pending) => kept.push(pending),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::QueueFull));
        assert!(kept.len() * (64 + OVERHEAD) <= QUEUE_BYTES);
        requests.close();
        assert!(matches!(requests.push(create("t")), Err(Error::Stopping)));
    }
}
