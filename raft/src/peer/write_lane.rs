//! The connections on which writes travel: log entries to the followers, batches to the leader.
//!
//! Every write waits for both, so their price counts, as that of the
//! [read lane](crate::peer::read_lane). One question at a time goes over a connection; whoever asks
//! takes one that is free, or waits for another to be dialled. Dialling outlives its caller:
//! openraft gives a follower one heartbeat interval, and if that were to be enough for connecting,
//! introducing oneself and the entries, a peer that is some way off would never be reached again.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use raftlookupd_storage::event::BatchResult;
use raftlookupd_storage::registration::MemberId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::peer::frames::{Frames, Magic, Opening, to_frame};
use crate::peer::message::{Addressed, Declined, Reply, SubmitBatch};
use crate::types::TypeConfig;

/// What such a connection begins with.
pub(crate) const MAGIC: Magic = *b"\0WL1";

/// Several times the longest honest message: an AppendEntries with one large entry.
pub(crate) const LONGEST_FRAME: usize = 8 * 1024 * 1024;

/// A connection idle for longer may lead to a peer that is long gone: rather dial again, which
/// also resolves the name again.
const IDLE: Duration = Duration::from_secs(5);

/// Free connections to one peer: there is one replication, and one batch on its way.
const MOST_IDLE: usize = 4;

/// A peer that has not admitted us by then is dialled again.
const DIAL: Duration = Duration::from_millis(500);

/// What is asked. All of it may be repeated without harm.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// Raft's AppendEntries.
    Append(AppendEntriesRequest<TypeConfig>),
    /// A member's batch, for the leader to propose.
    Submit(SubmitBatch),
}

/// What can be asked, and what is answered.
pub(crate) trait WriteRequest: Into<Question> + Send {
    /// The answer; it comes as a [`Reply`].
    type Answer: DeserializeOwned + Send;
}

impl WriteRequest for AppendEntriesRequest<TypeConfig> {
    type Answer = Result<AppendEntriesResponse<MemberId>, RaftError<MemberId>>;
}

impl From<AppendEntriesRequest<TypeConfig>> for Question {
    fn from(request: AppendEntriesRequest<TypeConfig>) -> Self {
        Question::Append(request)
    }
}

impl WriteRequest for SubmitBatch {
    type Answer = BatchResult;
}

impl From<SubmitBatch> for Question {
    fn from(batch: SubmitBatch) -> Self {
        Question::Submit(batch)
    }
}

/// A connection that nobody uses.
struct Idle {
    frames: Frames,
    address: String,
    since: Instant,
}

/// What came of dialling: a connection is free, or why there is none.
#[derive(Debug, Clone)]
enum Dialled {
    Connected,
    Declined(Declined),
    Failed(io::ErrorKind, String),
}

#[derive(Default)]
struct Lanes {
    idle: BTreeMap<MemberId, Vec<Idle>>,
    /// At most one for each peer.
    dialling: BTreeMap<MemberId, watch::Receiver<Option<Dialled>>>,
}

/// The ends that ask. Clones share the connections.
#[derive(Clone, Default)]
pub(crate) struct WriteLanes(Arc<Mutex<Lanes>>);

impl WriteLanes {
    /// Asks a member at its address. Dropped before it is ready, the connection that it has asked on
    /// is closed.
    ///
    /// # Errors
    /// Those of connecting, writing and reading: the question may have had its effect.
    pub(crate) async fn ask<Q: WriteRequest>(
        &self,
        who: Addressed<Opening>,
        address: &str,
        request: Q,
    ) -> io::Result<Reply<Q::Answer>> {
        let question = to_frame(&request.into())?;
        if let Some(mut frames) = self.take(who.to, address) {
            // It may be closed, or be cut off, in this moment.
            if let Ok(answer) = ask_on(&mut frames, &question).await {
                self.put(who.to, address, frames);
                return Ok(answer);
            }
        }
        loop {
            match self.dialled(who, address).await {
                Dialled::Connected => {}
                Dialled::Declined(declined) => return Ok(Err(declined)),
                Dialled::Failed(kind, text) => return Err(io::Error::new(kind, text)),
            }
            // Another caller may have been quicker.
            if let Some(mut frames) = self.take(who.to, address) {
                let answer = ask_on(&mut frames, &question).await?;
                self.put(who.to, address, frames);
                return Ok(answer);
            }
        }
    }

    /// Dials, or waits for what comes of it where that is under way.
    async fn dialled(&self, who: Addressed<Opening>, address: &str) -> Dialled {
        let mut outcome = {
            let mut lanes = self.lanes();
            let dialling = lanes.dialling.entry(who.to);
            let dialling = dialling.or_insert_with(|| self.dial(who, address.to_string()));
            dialling.clone()
        };
        let outcome = outcome.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        // The task was ended with its runtime.
        outcome.unwrap_or_else(|| Dialled::Failed(io::ErrorKind::Interrupted, "ended".into()))
    }

    fn dial(&self, who: Addressed<Opening>, address: String) -> watch::Receiver<Option<Dialled>> {
        let (done, outcome) = watch::channel(None);
        let lanes = self.clone();
        tokio::spawn(async move {
            let connected = tokio::time::timeout(DIAL, connect(&who, &address)).await;
            let dialled = match connected.unwrap_or_else(|late| Err(late.into())) {
                Ok(Ok(frames)) => {
                    lanes.put(who.to, &address, frames);
                    Dialled::Connected
                }
                Ok(Err(declined)) => Dialled::Declined(declined),
                Err(error) => Dialled::Failed(error.kind(), error.to_string()),
            };
            lanes.lanes().dialling.remove(&who.to);
            done.send_replace(Some(dialled));
        });
        outcome
    }

    fn take(&self, to: MemberId, address: &str) -> Option<Frames> {
        let mut lanes = self.lanes();
        let idle = lanes.idle.get_mut(&to)?;
        while let Some(lane) = idle.pop() {
            if lane.address == address && lane.since.elapsed() < IDLE && lane.frames.is_open() {
                return Some(lane.frames);
            }
        }
        None
    }

    fn put(&self, to: MemberId, address: &str, frames: Frames) {
        let mut lanes = self.lanes();
        lanes.idle.retain(|_, idle| {
            idle.retain(|lane| lane.since.elapsed() < IDLE);
            !idle.is_empty()
        });
        let idle = lanes.idle.entry(to).or_default();
        if idle.len() < MOST_IDLE {
            idle.push(Idle {
                frames,
                address: address.to_string(),
                since: Instant::now(),
            });
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(who: &Addressed<Opening>, address: &str) -> io::Result<Reply<Frames>> {
    let mut frames = Frames::dial(address, MAGIC, who, LONGEST_FRAME).await?;
    let admitted: Reply<()> = frames.receive().await?;
    Ok(admitted.map(|()| frames))
}

async fn ask_on<T: DeserializeOwned>(frames: &mut Frames, question: &[u8]) -> io::Result<T> {
    frames.send(question).await?;
    frames.receive().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftlookupd_storage::event::MemberBatch;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    const WHO: Addressed<Opening> = Addressed {
        cluster: 7,
        from: 1,
        to: 2,
        message: Opening,
    };

    /// Fails if the test hangs.
    async fn in_time(test: impl Future<Output = ()>) {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), test);
        ended.await.expect("the test hangs");
    }

    fn batch(sequence: u64) -> SubmitBatch {
        SubmitBatch(MemberBatch {
            member: 1,
            incarnation: 1,
            sequence,
            at: 1,
            events: Vec::new(),
        })
    }

    /// Answers as many questions on each connection as `patience` says; reads one more, and
    /// closes. Counts connections.
    async fn peer(patience: &'static [usize]) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dialled = Arc::new(AtomicUsize::new(0));
        let count = dialled.clone();
        tokio::spawn(async move {
            for answers in patience {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                serve(stream, *answers).await;
            }
        });
        (address, dialled)
    }

    async fn serve(mut stream: TcpStream, answers: usize) {
        let mut magic = Magic::default();
        stream.read_exact(&mut magic).await.unwrap();
        assert_eq!(magic, MAGIC);
        let mut frames = Frames::new(stream, LONGEST_FRAME);
        let opening: Addressed<Opening> = frames.receive().await.unwrap();
        let admitted = match opening.cluster {
            7 => Ok(()),
            cluster => Err(Declined::ForeignCluster { cluster }),
        };
        frames.send(&to_frame(&admitted).unwrap()).await.unwrap();
        for answered in 0..=answers {
            let Ok(Question::Submit(_)) = frames.receive().await else {
                return;
            };
            let reply: Reply<BatchResult> = Ok(BatchResult::Superseded);
            if answered < answers {
                frames.send(&to_frame(&reply).unwrap()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn one_connection_serves_one_question_after_the_other() {
        in_time(async {
            let (address, dialled) = peer(&[10]).await;
            let lanes = WriteLanes::default();
            for sequence in 0..10 {
                let answer = lanes.ask(WHO, &address, batch(sequence)).await.unwrap();
                assert_eq!(answer, Ok(BatchResult::Superseded));
            }
            assert_eq!(dialled.load(Ordering::Relaxed), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_replaced_once() {
        in_time(async {
            let (address, dialled) = peer(&[1, 2, 0]).await;
            let lanes = WriteLanes::default();
            for sequence in 0..3 {
                lanes
                    .ask(WHO, &address, batch(sequence))
                    .await
                    .unwrap()
                    .unwrap();
            }
            assert_eq!(dialled.load(Ordering::Relaxed), 2);
            // A new connection that breaks as well is an answer: nobody knows what became of it.
            lanes.ask(WHO, &address, batch(3)).await.unwrap_err();
            assert_eq!(dialled.load(Ordering::Relaxed), 3);
        })
        .await;
    }

    #[tokio::test]
    async fn a_connection_is_made_although_its_caller_gave_up() {
        in_time(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let (admit, admitted) = tokio::sync::oneshot::channel();
            let peer = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                admitted.await.unwrap();
                serve(stream, 1).await;
                listener
            });
            let lanes = WriteLanes::default();
            for sequence in 0..3 {
                let answer = lanes.ask(WHO, &address, batch(sequence));
                let soon = Duration::from_millis(5);
                tokio::time::timeout(soon, answer).await.unwrap_err();
            }
            admit.send(()).unwrap();
            let answer = lanes.ask(WHO, &address, batch(3)).await.unwrap();
            assert_eq!(answer, Ok(BatchResult::Superseded));
            // It was the first connection, and there is no other.
            drop(lanes);
            let listener = peer.await.unwrap();
            let second = tokio::time::timeout(Duration::from_millis(20), listener.accept());
            second.await.unwrap_err();
        })
        .await;
    }

    #[tokio::test]
    async fn who_is_not_meant_says_so() {
        in_time(async {
            let (address, _) = peer(&[1]).await;
            let stranger = Addressed { cluster: 8, ..WHO };
            let lanes = WriteLanes::default();
            let answer = lanes.ask(stranger, &address, batch(0)).await.unwrap();
            assert_eq!(answer, Err(Declined::ForeignCluster { cluster: 8 }));
            assert!(lanes.0.lock().unwrap().idle.is_empty());
        })
        .await;
    }
}
