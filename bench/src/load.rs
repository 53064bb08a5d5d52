//! Has many workers do the same thing for a while, and notes how long it takes.
//!
//! - *Closed loop*: each worker begins its next operation when the last one has ended. That gives
//!   the throughput, and service times: a target that stops for a second has one operation of a
//!   second for each worker, not the thousands that clients of their own mind would have had.
//! - *Open loop*: operations are due at a fixed rate, whether or not the target keeps up, and each
//!   is measured from when it was due. So waiting counts (no coordinated omission).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::latency::Latencies;
use crate::metronome::Metronome;

/// How long a run may take longer than it should.
const PATIENCE: Duration = Duration::from_secs(120);

/// Does one operation after the other, on a connection of its own.
pub(crate) trait Worker: Send + 'static {
    /// Does one.
    ///
    /// # Errors
    /// What ends the whole run.
    fn operate(&mut self) -> impl Future<Output = Result<Done>> + Send;
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// It succeeded.
    Ok,
    /// The target said that it cannot at the moment.
    Refused,
}

/// How long, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// What is measured; in a closed loop, a tenth of it passes unmeasured before.
    pub(crate) duration: Duration,
    /// Operations a second of all workers together; none is as fast as they can.
    pub(crate) rate: Option<f64>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Operations that ended, refused ones included.
    pub(crate) latencies: Latencies,
    /// Successful operations a second.
    pub(crate) rate: f64,
    pub(crate) refused: u64,
}

#[derive(Debug)]
struct Tally {
    latencies: Latencies,
    ok: u64,
    refused: u64,
}

/// What the workers share. They run on one thread, so the lock is always free.
#[derive(Debug)]
struct Run {
    schedule: Schedule,
    tally: Mutex<Tally>,
}

#[derive(Debug)]
enum Schedule {
    Closed { from: Instant, until: Instant },
    Open(Metronome),
}

impl Run {
    fn new(load: Load) -> Result<Run> {
        let schedule = match load.rate {
            Some(rate) => Schedule::Open(Metronome::start(load.duration, rate)?),
            None => {
                let from = Instant::now() + load.duration / 10;
                let until = from + load.duration;
                Schedule::Closed { from, until }
            }
        };
        let tally = Tally {
            latencies: Latencies::new(),
            ok: 0,
            refused: 0,
        };
        Ok(Run {
            schedule,
            tally: Mutex::new(tally),
        })
    }

    async fn work<W: Worker>(self: Arc<Self>, mut worker: W) -> Result<W> {
        match &self.schedule {
            Schedule::Closed { from, until } => {
                let mut now = Instant::now();
                while now < *until {
                    let began = now;
                    let done = worker.operate().await?;
                    now = Instant::now();
                    // What ends within the time counts, wherever it began: else slow operations
                    // would count less than fast ones.
                    if now >= *from && now < *until {
                        self.note(done, now - began);
                    }
                }
            }
            Schedule::Open(metronome) => {
                while let Some(due) = metronome.beat().await {
                    let done = worker.operate().await?;
                    self.note(done, due.elapsed());
                }
            }
        }
        Ok(worker)
    }

    fn note(&self, done: Done, took: Duration) {
        let mut tally = lock(&self.tally);
        tally.latencies.record(took);
        match done {
            Done::Ok => tally.ok += 1,
            Done::Refused => tally.refused += 1,
        }
    }
}

/// Has the workers work; gives them back with what was measured.
///
/// # Errors
/// The first error of a worker; [`Error::Waited`] if the target is stuck.
pub(crate) async fn run<W: Worker>(workers: Vec<W>, load: Load) -> Result<(Vec<W>, Measured)> {
    let run = Arc::new(Run::new(load)?);
    let began = Instant::now();
    let work = workers.into_iter().map(|worker| run.clone().work(worker));
    let waited = load.duration + PATIENCE;
    let finished = tokio::time::timeout(waited, together(work)).await;
    let what = "the workers to end".to_string();
    let workers = finished.map_err(|_| Error::Waited { what, waited })??;
    let time = match run.schedule {
        Schedule::Closed { .. } => load.duration,
        Schedule::Open(_) => began.elapsed(),
    };
    let tally = lock(&run.tally);
    let measured = Measured {
        latencies: tally.latencies.clone(),
        rate: tally.ok as f64 / time.as_secs_f64(),
        refused: tally.refused,
    };
    Ok((workers, measured))
}

/// Does all of it at the same time; what each gave, in their order.
///
/// # Errors
/// The first one; what else goes on is dropped.
pub(crate) async fn together<T, F>(futures: impl IntoIterator<Item = F>) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (position, future) in futures.into_iter().enumerate() {
        tasks.spawn(async move { (position, future.await) });
    }
    let mut ended = Vec::with_capacity(tasks.len());
    while let Some(task) = tasks.join_next().await {
        let (position, result) = task.map_err(|error| Error::io("a task")(error.into()))?;
        ended.push((position, result?));
    }
    ended.sort_by_key(|(position, _)| *position);
    Ok(ended.into_iter().map(|(_, result)| result).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes 200 ms for its first operation, and nothing for the others.
    struct Hesitant(bool);

    impl Worker for Hesitant {
        async fn operate(&mut self) -> Result<Done> {
            if std::mem::take(&mut self.0) {
                tokio::time::sleep(Duration::from_millis(200)).await;
                return Ok(Done::Refused);
            }
            tokio::task::yield_now().await;
            Ok(Done::Ok)
        }
    }

    #[tokio::test]
    async fn an_open_loop_counts_the_waiting() {
        let load = Load {
            duration: Duration::from_millis(100),
            rate: Some(1000.0),
        };
        let (workers, measured) = run(vec![Hesitant(true)], load).await.unwrap();
        assert_eq!(workers.len(), 1);
        let latencies = measured.latencies.percentiles();
        assert_eq!((latencies.count, measured.refused), (100, 1));
        // All others were due while the first one took its time.
        assert!(latencies.p50 > 100.0, "{latencies:?}");
    }

    #[tokio::test]
    async fn a_closed_loop_does_not() {
        let load = Load {
            duration: Duration::from_millis(400),
            rate: None,
        };
        let (_, measured) = run(vec![Hesitant(true)], load).await.unwrap();
        let latencies = measured.latencies.percentiles();
        assert_eq!(measured.refused, 1);
        assert!(latencies.p50 < 100.0, "{latencies:?}");
        assert!(latencies.max > 190.0, "{latencies:?}");
    }
}
