//! Builds long answers on a few threads of their own, in a bounded amount of memory.
//!
//! An answer about a large registry can take a hundred megabytes. It is built completely before it
//! is sent, so that a slow client neither delays other answers nor sees changes that happen while
//! it reads. Each chunk counts until hyper has written it to the socket.
//!
//! There are two pools, so that answers about the whole registry never delay those about one topic,
//! which nsqds and consumers wait for. Each pool has one thread: an answer that waits for memory
//! waits for clients to read, never for another answer that waits as well.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use std::vec::IntoIter;

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::http::connection::client::Client;
use crate::http::error::HttpError;

/// Unit of allocation, sending and accounting.
const CHUNK: usize = 64 << 10;

/// Memory for answers about the whole registry: 192 MiB.
const REGISTRY_CHUNKS: usize = 3 << 10;

/// Memory for answers about one topic: 64 MiB.
const TOPIC_CHUNKS: usize = 1 << 10;

/// How long a request waits for its turn and for memory. nsqadmin gives up after about as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Too many other long answers are being built or sent.
    Busy,
    /// The answer does not fit into the memory of its pool.
    TooLarge,
    /// The client has left, or the thread has panicked.
    Abandoned,
}

impl From<NoAnswer> for HttpError {
    fn from(reason: NoAnswer) -> Self {
        match reason {
            NoAnswer::Busy => HttpError::Busy,
            NoAnswer::TooLarge => HttpError::AnswerTooLarge,
            NoAnswer::Abandoned => HttpError::Internal,
        }
    }
}

/// What an answer is about, which decides the pool that it is built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Registry,
    Topic,
}

/// Builds long answers, and accounts for their memory.
#[derive(Debug)]
pub(crate) struct LongAnswers {
    registry: Pool,
    topic: Pool,
}

#[derive(Debug)]
struct Pool {
    /// Held by the answer that is being built.
    turn: Arc<Semaphore>,
    /// Requests that wait for their turn.
    waiting: Arc<AtomicUsize>,
    /// Chunks that can still be allocated.
    room: Arc<Semaphore>,
    chunks: usize,
    patience: Duration,
}

/// Whether the client still waits. The channel is closed when it certainly does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Open,
    /// It has closed its sending side: most likely it has left.
    Closed,
}

impl Default for LongAnswers {
    fn default() -> Self {
        LongAnswers {
            registry: Pool::new(REGISTRY_CHUNKS, PATIENCE),
            topic: Pool::new(TOPIC_CHUNKS, PATIENCE),
        }
    }
}

impl LongAnswers {
    /// Answers that are being built.
    pub(crate) fn building(&self) -> usize {
        self.registry.building() + self.topic.building()
    }

    /// Memory of answers that are being built or sent.
    pub(crate) fn bytes(&self) -> usize {
        (self.registry.held() + self.topic.held()) * CHUNK
    }

    /// Builds an answer on a thread where it may take its time. The build ends early, at its next
    /// [`Page::done`], if the future is dropped or the client leaves.
    ///
    /// # Errors
    /// [`NoAnswer`], and what `build` gives.
    pub(super) async fn build<T: Send + 'static, E: From<NoAnswer> + Send + 'static>(
        &self,
        scope: Scope,
        client: &Client,
        build: impl FnOnce(&mut Page) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, LongBody), E> {
        let pool = match scope {
            Scope::Registry => &self.registry,
            Scope::Topic => &self.topic,
        };
        pool.build(client, build).await
    }
}

impl Pool {
    fn new(chunks: usize, patience: Duration) -> Self {
        Pool {
            turn: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
            room: Arc::new(Semaphore::new(chunks)),
            chunks,
            patience,
        }
    }

    fn building(&self) -> usize {
        1_usize.saturating_sub(self.turn.available_permits())
    }

    fn held(&self) -> usize {
        self.chunks.saturating_sub(self.room.available_permits())
    }

    async fn build<T: Send + 'static, E: From<NoAnswer> + Send + 'static>(
        &self,
        client: &Client,
        build: impl FnOnce(&mut Page) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, LongBody), E> {
        let until = Instant::now() + self.patience;
        let turn = self.turn(client, until).await?;
        let (presence, seen) = watch::channel(Presence::Open);
        let page = Page {
            chunks: Vec::new(),
            current: Vec::new(),
            current_room: None,
            length: 0,
            failure: None,
            room: self.room.clone(),
            most_chunks: self.chunks,
            waiting: self.waiting.clone(),
            until,
            presence: seen,
            runtime: Handle::current(),
        };
        let built = tokio::task::spawn_blocking(move || {
            // Dropped last: the next build begins when this one has freed its memory.
            let _turn = turn;
            let mut page = page;
            let built = build(&mut page)?;
            Ok((built, page.finish()?))
        });
        let left = async {
            client.closed().await;
            presence.send_replace(Presence::Closed);
            client.gone().await;
        };
        tokio::select! {
            built = built => built.unwrap_or_else(|_| Err(NoAnswer::Abandoned.into())),
            () = left => Err(NoAnswer::Abandoned.into()),
        }
    }

    /// Waits for the turn to build. A client that has closed its side is not waited for: under
    /// load, the answers of clients that have given up would keep the others waiting.
    async fn turn(
        &self,
        client: &Client,
        until: Instant,
    ) -> Result<OwnedSemaphorePermit, NoAnswer> {
        if let Ok(turn) = self.turn.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let _waiting = Waiting::new(&self.waiting);
        let turn = self.turn.clone().acquire_owned();
        tokio::select! {
            turn = tokio::time::timeout_at(until, turn) => match turn {
                Ok(Ok(turn)) => Ok(turn),
                Ok(Err(_)) | Err(_) => Err(NoAnswer::Busy),
            },
            () = client.closed() => Err(NoAnswer::Busy),
        }
    }
}

/// Counts a request that waits for its turn.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer that is being written.
pub(crate) struct Page {
    chunks: Vec<Bytes>,
    current: Vec<u8>,
    current_room: Option<OwnedSemaphorePermit>,
    length: u64,
    /// Set once; nothing is written after it.
    failure: Option<NoAnswer>,
    room: Arc<Semaphore>,
    most_chunks: usize,
    waiting: Arc<AtomicUsize>,
    until: Instant,
    presence: watch::Receiver<Presence>,
    runtime: Handle,
}

impl Page {
    /// Appends bytes as they are. A failure is reported by [`Page::done`].
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        // Kept in `failure`.
        let _ = self.write_all(bytes);
    }

    /// Appends a value as JSON. A failure is reported by [`Page::done`].
    pub(super) fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Kept in `failure`; texts, numbers and lists can always be written as JSON.
        let _ = serde_json::to_writer(self, value);
    }

    /// Ends a page, which is also where an answer is given up that nobody waits for.
    ///
    /// # Errors
    /// [`NoAnswer`]; the build should end.
    pub(super) fn done(&mut self) -> Result<(), NoAnswer> {
        if self.failure.is_none() {
            self.failure = self.interruption();
        }
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn interruption(&self) -> Option<NoAnswer> {
        if self.presence.has_changed().is_err() {
            return Some(NoAnswer::Abandoned);
        }
        // A client that may have left is answered as long as that keeps nobody waiting.
        let closed = *self.presence.borrow() == Presence::Closed;
        (closed && self.waiting.load(Ordering::Relaxed) > 0).then_some(NoAnswer::Busy)
    }

    fn next_chunk(&mut self) -> Result<(), NoAnswer> {
        self.done()?;
        self.seal();
        if self.chunks.len() >= self.most_chunks {
            let limit_mib = (self.most_chunks * CHUNK) >> 20;
            tracing::warn!(
                limit_mib,
                "refused an answer over HTTP that is larger than its memory limit; \
                 query single topics with /lookup instead"
            );
            return Err(NoAnswer::TooLarge);
        }
        let room = match self.room.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(_) => self.wait_for_room()?,
        };
        self.current_room = Some(room);
        self.current = Vec::with_capacity(CHUNK);
        Ok(())
    }

    fn wait_for_room(&mut self) -> Result<OwnedSemaphorePermit, NoAnswer> {
        let room = self.room.clone().acquire_owned();
        let presence = &mut self.presence;
        self.runtime.block_on(async {
            tokio::select! {
                // First: the timer must not be used while the runtime shuts down.
                biased;
                closed = presence.wait_for(|presence| *presence == Presence::Closed) => {
                    Err(closed.map_or(NoAnswer::Abandoned, |_| NoAnswer::Busy))
                }
                room = tokio::time::timeout_at(self.until, room) => match room {
                    Ok(Ok(room)) => Ok(room),
                    Ok(Err(_)) | Err(_) => Err(NoAnswer::Busy),
                },
            }
        })
    }

    fn seal(&mut self) {
        let bytes = std::mem::take(&mut self.current);
        if let Some(room) = self.current_room.take() {
            self.length += bytes.len() as u64;
            self.chunks
                .push(Bytes::from_owner(Chunk { bytes, _room: room }));
        }
    }

    fn finish(mut self) -> Result<LongBody, NoAnswer> {
        self.done()?;
        self.seal();
        Ok(LongBody {
            left: self.length,
            chunks: self.chunks.into_iter(),
        })
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_full = self.current_room.is_none() || self.current.len() == CHUNK;
        if is_full && let Err(failure) = self.next_chunk() {
            self.failure = Some(failure);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let some = bytes.len().min(CHUNK - self.current.len());
        self.current.extend_from_slice(&bytes[..some]);
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Part of an answer. The fields are dropped in this order: the memory, then its permit.
struct Chunk {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A complete answer that is being sent.
#[derive(Debug)]
pub(super) struct LongBody {
    chunks: IntoIter<Bytes>,
    left: u64,
}

impl Body for LongBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let chunk = self.chunks.next();
        if let Some(chunk) = &chunk {
            self.left -= chunk.len() as u64;
        }
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
