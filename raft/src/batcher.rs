//! A member's side of a write: one ordered batch in flight, repeated until its fate is known.
//!
//! Events wait here in the order in which sessions and handlers submitted them. An event is
//! never taken back: who gives up waiting for it leaves a debt that the member keeps paying.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use raftlookupd_storage::event::{BatchResult, Event, MemberBatch, Refusal};
use raftlookupd_storage::registration::MemberId;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::leader_link::LeaderLink;
use crate::transitions::{Ending, Failure};

/// Events of one batch; with [`BATCH_BYTES`], what one member adds to a log entry.
const BATCH_EVENTS: usize = 4096;

/// An entry has to reach the followers within a heartbeat interval.
const BATCH_BYTES: usize = 128 * 1024;

/// What may wait without a quorum: some hundred thousand registrations. nsqds beyond that are
/// turned away, and register anew when they come back.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// How long to wait before a batch is repeated when nothing says that it would go better now.
const RETRY: Duration = Duration::from_millis(20);

/// The fate of a submitted event: `Ok` when it is committed. Dropping it changes nothing about
/// the event.
#[derive(Debug)]
pub struct Pending {
    fate: oneshot::Receiver<std::result::Result<(), Refusal>>,
    ordinal: u64,
}

impl Pending {
    /// The event's place among all that this member submitted; see
    /// [`Registry::is_decided`](crate::Registry::is_decided).
    pub fn ordinal(&self) -> u64 {
        self.ordinal
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

type Fate = oneshot::Sender<std::result::Result<(), Refusal>>;

/// The queue of one member's events.
pub(crate) struct Batcher {
    member: MemberId,
    incarnation: u64,
    queue: Mutex<Queue>,
    arrived: Notify,
    /// Events whose fate is known: the first so many that were submitted.
    decided: AtomicU64,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<(Event, Fate)>,
    bytes: usize,
    submitted: u64,
    closed: bool,
}

impl Batcher {
    /// Starts the task that sends batches; it ends with [`Batcher::close`], or when it turns out
    /// that this process must not speak for the member.
    pub(crate) fn start(
        member: MemberId,
        incarnation: u64,
        link: LeaderLink,
        failure: Failure,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let batcher = Arc::new(Batcher {
            member,
            incarnation,
            queue: Mutex::default(),
            arrived: Notify::new(),
            decided: AtomicU64::new(0),
        });
        tasks.spawn(batcher.clone().run(link, failure));
        batcher
    }

    /// Queues an event behind all others of this member.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::Stopping`]; the event is not queued then.
    pub(crate) fn submit(&self, event: Event) -> Result<Pending> {
        let (fate, pending) = oneshot::channel();
        let mut queue = self.queue();
        if queue.closed {
            return Err(Error::Stopping);
        }
        let bytes = size_of(&event);
        // The end of a session must not be lost; there is one for each at most.
        let must_pass = matches!(event, Event::Detach { .. });
        if queue.bytes + bytes > QUEUE_BYTES && !must_pass {
            return Err(Error::QueueFull);
        }
        queue.bytes += bytes;
        queue.submitted += 1;
        let ordinal = queue.submitted;
        queue.events.push_back((event, fate));
        drop(queue);
        self.arrived.notify_one();
        Ok(Pending {
            fate: pending,
            ordinal,
        })
    }

    /// Takes no more events and sends none; what waits is left undone.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.arrived.notify_one();
    }

    /// Events that wait, and events committed since the start.
    pub(crate) fn counts(&self) -> (usize, u64) {
        (
            self.queue().events.len(),
            self.decided.load(Ordering::Acquire),
        )
    }

    async fn run(self: Arc<Self>, link: LeaderLink, failure: Failure) {
        let mut sequence = 0;
        while let Some((events, fates)) = self.next_batch().await {
            sequence += 1;
            let batch = MemberBatch {
                member: self.member,
                incarnation: self.incarnation,
                sequence,
                events,
            };
            let Some(result) = self.deliver(&link, &batch).await else {
                return;
            };
            let refused = match result {
                BatchResult::Applied { refused } => refused,
                BatchResult::Superseded => {
                    self.close();
                    let reason = "this member was removed from the cluster, \
                                  or another process runs on a copy of its data";
                    failure.send_replace(Some(Ending::Member(reason.into())));
                    return;
                }
            };
            self.decided
                .fetch_add(fates.len() as u64, Ordering::Release);
            let mut refused = refused.into_iter().peekable();
            for (position, fate) in (0u32..).zip(fates) {
                let refusal = refused.next_if(|(refused, _)| *refused == position);
                // Nobody may be waiting any more.
                let _ = fate.send(refusal.map_or(Ok(()), |(_, refusal)| Err(refusal)));
            }
        }
    }

    /// Waits for events; `None` when the batcher is closed.
    async fn next_batch(&self) -> Option<(Vec<Event>, Vec<Fate>)> {
        loop {
            {
                let mut queue = self.queue();
                if queue.closed {
                    return None;
                }
                let mut batch = (Vec::new(), Vec::new());
                let mut bytes = 0;
                while batch.0.len() < BATCH_EVENTS
                    && bytes < BATCH_BYTES
                    && let Some((event, fate)) = queue.events.pop_front()
                {
                    bytes += size_of(&event);
                    batch.0.push(event);
                    batch.1.push(fate);
                }
                queue.bytes -= bytes;
                if !batch.0.is_empty() {
                    return Some(batch);
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Repeats the batch until a leader says what became of it; `None` when closed.
    async fn deliver(&self, link: &LeaderLink, batch: &MemberBatch) -> Option<BatchResult> {
        loop {
            if let Some(result) = link.submit(batch).await {
                return Some(result);
            }
            if self.queue().closed {
                return None;
            }
            link.leader_changed(RETRY).await;
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Roughly what an event takes in memory and on the wire.
fn size_of(event: &Event) -> usize {
    let names = match event {
        Event::Attach {
            producer,
            remote_address,
            info,
            ..
        } => {
            producer.broadcast_address.len()
                + remote_address.len()
                + info.hostname.len()
                + info.version.len()
                + info.topology_zone.len()
                + info.topology_region.len()
        }
        Event::Claim { topic, channel, .. } | Event::Release { topic, channel, .. } => {
            topic.len() + channel.as_ref().map_or(0, String::len)
        }
        Event::CreateChannel { topic, channel } | Event::DeleteChannel { topic, channel } => {
            topic.len() + channel.len()
        }
        Event::CreateTopic { topic } | Event::DeleteTopic { topic } => topic.len(),
        Event::Tombstone { topic, node, .. } => topic.len() + node.len(),
        Event::Detach { .. }
        | Event::SetActive { .. }
        | Event::SuspendMember { .. }
        | Event::ResumeMember { .. }
        | Event::RemoveMember { .. }
        | Event::Sweep => 0,
    };
    names + 48
}
