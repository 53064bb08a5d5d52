//! Says when operations are due, to some tens of microseconds: tokio's timers know whole
//! milliseconds, so a thread of its own sleeps.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};

use crate::error::{Error, Result};

/// When the operations of an open loop are due. PURE.
#[derive(Debug)]
struct DueTimes {
    from: Instant,
    interval: f64,
    next: u64,
    count: u64,
}

impl DueTimes {
    fn new(from: Instant, duration: Duration, rate: f64) -> DueTimes {
        DueTimes {
            from,
            interval: 1.0 / rate,
            next: 0,
            count: (duration.as_secs_f64() * rate).ceil() as u64,
        }
    }
}

impl Iterator for DueTimes {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        let number = self.next;
        self.next += 1;
        let after = Duration::from_secs_f64(self.interval * number as f64);
        (number < self.count).then(|| self.from + after)
    }
}

/// Shared by all workers: each beat is for one of them.
#[derive(Debug, Clone)]
pub(crate) struct Metronome(Arc<Mutex<mpsc::UnboundedReceiver<Instant>>>);

impl Metronome {
    /// Beats at this rate from now on.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn start(duration: Duration, rate: f64) -> Result<Metronome> {
        // What nobody takes in time waits; there are as many beats as the schedule has.
        let (beats, taken) = mpsc::unbounded_channel();
        let times = DueTimes::new(Instant::now(), duration, rate);
        let beat = move || {
            for due in times {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if beats.send(due).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("metronome".into()).spawn(beat);
        thread.map_err(Error::io("start a thread"))?;
        Ok(Metronome(Arc::new(Mutex::new(taken))))
    }

    /// Waits for the next beat; when it was due, `None` behind the last one.
    pub(crate) async fn beat(&self) -> Option<Instant> {
        self.0.lock().await.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_at_the_rate() {
        let from = Instant::now();
        let times = DueTimes::new(from, Duration::from_millis(25), 100.0);
        let times: Vec<Duration> = times.map(|due| due - from).collect();
        assert_eq!(times, [0, 10, 20].map(Duration::from_millis));
    }

    #[tokio::test]
    async fn it_beats_in_order_and_never_early() {
        let metronome = Metronome::start(Duration::from_millis(10), 1000.0).unwrap();
        let mut beats = 0;
        let mut last = Instant::now() - Duration::from_secs(1);
        while let Some(due) = metronome.beat().await {
            assert!(Instant::now() >= due && due > last, "beat {beats}");
            last = due;
            beats += 1;
        }
        assert_eq!(beats, 10);
    }
}
