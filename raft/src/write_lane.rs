//! The connections on which writes travel: log entries to the followers, batches to the leader.
//!
//! Every write waits for both, so their price counts, as that of the
//! [read lane](crate::read_lane). One question at a time goes over a connection; whoever asks
//! takes one that is free, or dials another.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use raftlookupd_storage::event::BatchResult;
use raftlookupd_storage::registration::MemberId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frames::{Frames, Magic, Opening, to_frame};
use crate::peer_message::{Addressed, Declined, Reply, SubmitBatch};
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

/// The ends that ask. Clones share the connections.
#[derive(Clone, Default)]
pub(crate) struct WriteLanes(Arc<Mutex<BTreeMap<MemberId, Vec<Idle>>>>);

impl WriteLanes {
    /// Asks a member at its address. Dropped before it is ready, its connection is closed.
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
        let mut frames = Frames::dial(address, MAGIC, &who, LONGEST_FRAME).await?;
        let admitted: Result<(), Declined> = frames.receive().await?;
        if let Err(declined) = admitted {
            return Ok(Err(declined));
        }
        let answer = ask_on(&mut frames, &question).await?;
        self.put(who.to, address, frames);
        Ok(answer)
    }

    fn take(&self, to: MemberId, address: &str) -> Option<Frames> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lanes.get_mut(&to)?;
        while let Some(lane) = idle.pop() {
            if lane.address == address && lane.since.elapsed() < IDLE && lane.frames.is_open() {
                return Some(lane.frames);
            }
        }
        None
    }

    fn put(&self, to: MemberId, address: &str, frames: Frames) {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, idle| {
            idle.retain(|lane| lane.since.elapsed() < IDLE);
            !idle.is_empty()
        });
        let idle = lanes.entry(to).or_default();
        if idle.len() < MOST_IDLE {
            idle.push(Idle {
                frames,
                address: address.to_string(),
                since: Instant::now(),
            });
        }
    }
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
    async fn who_is_not_meant_says_so() {
        in_time(async {
            let (address, _) = peer(&[1]).await;
            let stranger = Addressed { cluster: 8, ..WHO };
            let lanes = WriteLanes::default();
            let answer = lanes.ask(stranger, &address, batch(0)).await.unwrap();
            assert_eq!(answer, Err(Declined::ForeignCluster { cluster: 8 }));
            assert!(lanes.0.lock().unwrap().is_empty());
        })
        .await;
    }
}
