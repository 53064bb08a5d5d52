//! Moves bytes between one socket and a `Session`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::context::Context;
use crate::metrics::SessionEvent;
use crate::owned_session::{Answer, Outcome, OwnedSession};
use crate::protocol::error::ProtocolError;
use crate::protocol::reply::frame;
use crate::protocol::session::{Action, Session};
use crate::upstream_log;

/// Answers that a client may have waiting before we read more of what it sends.
const WINDOW: usize = 256;

/// Who has not identified himself must complete what he begins within this time, the first
/// command counted from the start. In between he may be silent for ever, as at nsqlookupd; a
/// machine that is gone is noticed by keep-alive.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// A client that does not take its answers for so long is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

type Waiting = (bool, Pin<Box<dyn Future<Output = Outcome> + Send>>);

/// What the loop woke up for.
enum Woken {
    Stop,
    Answered(Outcome),
    Read(std::io::Result<usize>),
    Tick,
}

/// Speaks with one client until one side ends it. What an nsqd registered is released before the
/// connection closes, unless this member is stopping.
pub(crate) async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    context: Arc<Context>,
    stop: watch::Receiver<bool>,
) {
    upstream_log::new_client(remote);
    let mut connection = Connection {
        stream,
        remote,
        session: Session::new(),
        owned: OwnedSession::new(context.clone(), remote.to_string()),
        context,
        waiting: VecDeque::new(),
        held_back: None,
        owed_until: None,
    };
    let stopped = connection.run(stop).await;
    if !stopped {
        upstream_log::exiting(remote);
        connection.owned.detach().await;
        // Both sides know now; an error here changes nothing.
        let _ = connection.stream.shutdown().await;
    }
}

struct Connection {
    stream: TcpStream,
    remote: SocketAddr,
    context: Arc<Context>,
    session: Session,
    owned: OwnedSession,
    /// Answers in the order of the commands, and whether one may still submit an event.
    waiting: VecDeque<Waiting>,
    /// A command that must not overtake the answers that are waiting.
    held_back: Option<Action>,
    /// When the command that the client owes must be complete.
    owed_until: Option<Instant>,
}

impl Connection {
    /// Whether it ended because this member is stopping.
    async fn run(&mut self, mut stop: watch::Receiver<bool>) -> bool {
        let mut input = vec![0; 16 * 1024];
        let mut output = Vec::new();
        let mut open = true;
        loop {
            let more = open && self.perform(&mut open).await;
            if !open && self.waiting.is_empty() {
                return false;
            }
            let woken = self.wait(&mut stop, &mut input, open && more).await;
            match woken {
                Woken::Stop => return true,
                Woken::Tick => {
                    if self.owed_until.is_some() {
                        tracing::info!(remote = %self.remote, "no command, closing the connection");
                        return false;
                    }
                    if let Err(error) = self.owned.tick() {
                        tracing::info!(remote = %self.remote, %error, "closing the connection");
                        return false;
                    }
                }
                Woken::Read(Ok(0)) => self.session.end_of_input(),
                Woken::Read(Ok(count)) => self.session.receive(&input[..count]),
                Woken::Read(Err(error)) => {
                    tracing::debug!(remote = %self.remote, %error, "connection lost");
                    return false;
                }
                Woken::Answered(outcome) => {
                    let body = match outcome {
                        Outcome::Say(body) => body,
                        Outcome::Unavailable => {
                            self.context.metrics.session(SessionEvent::Unavailable);
                            ProtocolError::Unavailable.text()
                        }
                        Outcome::Superseded => {
                            tracing::info!(remote = %self.remote, "a newer session has taken over");
                            return false;
                        }
                    };
                    output.clear();
                    frame(&body, &mut output);
                    let written = self.stream.write_all(&output);
                    let written = tokio::time::timeout(WRITE_DEADLINE, written).await;
                    if !matches!(written, Ok(Ok(()))) {
                        return false;
                    }
                }
            }
        }
    }

    /// Does what the client has asked for; whether more can be read now.
    async fn perform(&mut self, open: &mut bool) -> bool {
        while self.waiting.len() < WINDOW {
            let Some(action) = self.held_back.take().or_else(|| self.session.next_action()) else {
                return true;
            };
            self.owed_until = None;
            let overtakes = !matches!(action, Action::Ping | Action::Claim(..));
            if overtakes && self.waiting.iter().any(|(may_submit, _)| *may_submit) {
                self.held_back = Some(action);
                return false;
            }
            let answer = match action {
                Action::Ping => self.owned.ping(),
                Action::Attach(producer, info) => self.owned.attach(producer, info).await,
                Action::Claim(topic, channel) => self.owned.claim(topic, channel),
                Action::Release(topic, channel) => self.owned.release(topic, channel),
                Action::Fail(error) => {
                    self.context.metrics.session(SessionEvent::ProtocolError);
                    self.log_failure(&error);
                    *open = false;
                    Ok(Answer::Now(error.text()))
                }
                Action::Close => {
                    *open = false;
                    return false;
                }
            };
            let answer = answer.unwrap_or_else(|error| {
                tracing::warn!(remote = %self.remote, %error, "closing the connection");
                *open = false;
                Answer::Unavailable
            });
            self.waiting
                .push_back((answer.may_submit(), Box::pin(answer.wait())));
            if !*open {
                return false;
            }
        }
        false
    }

    async fn wait(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        input: &mut [u8],
        read: bool,
    ) -> Woken {
        self.owed_until = self.session.owes_command().then(|| {
            let from_now = || Instant::now() + COMMAND_DEADLINE;
            self.owed_until.unwrap_or_else(from_now)
        });
        let tick = self.owned.next_tick().or(self.owed_until);
        let at = tick.unwrap_or_else(Instant::now);
        let answered = async {
            match self.waiting.front_mut() {
                Some((_, answer)) => answer.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Woken::Stop,
            outcome = answered => {
                self.waiting.pop_front();
                Woken::Answered(outcome)
            }
            count = self.stream.read(input), if read => Woken::Read(count),
            () = tokio::time::sleep_until(at.into()), if tick.is_some() => Woken::Tick,
        }
    }

    fn log_failure(&self, error: &ProtocolError) {
        const METHODS: [&[u8]; 6] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI"];
        if *error == ProtocolError::BadMagic && METHODS.contains(&self.session.opening()) {
            tracing::warn!(
                remote = %self.remote,
                "this is an HTTP request on the TCP port: the client wants the HTTP port"
            );
            return;
        }
        let text = error.text();
        let text = String::from_utf8_lossy(&text[..text.len().min(200)]);
        upstream_log::protocol_error(self.remote, &text);
    }
}
