//! Moves bytes between one socket and a protocol session, and commands to the keeper of all
//! sessions.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use crate::context::Context;
use crate::metrics::SessionEvent;
use crate::nsqd::keeper::Opened;
use crate::nsqd::owner::{CloseReason, Verdict};
use crate::nsqd::protocol::error::ProtocolError;
use crate::nsqd::protocol::reply::{OK, frame};
use crate::nsqd::protocol::session::{Action, Session};
use crate::upstream_log::{self, Change};

/// Answers that a client may have waiting before we read more of what it sends.
const WINDOW: usize = 256;

/// What is read at once. Most commands are shorter than a hundred bytes.
const INPUT: usize = 4 * 1024;

/// Deadline for a client that has not identified itself to complete a command; the first is timed
/// from accept. Between commands it may stay silent indefinitely, as at nsqlookupd; a machine that
/// is gone is noticed by TCP keep-alive.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// A client that does not take its answers for so long is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

type Answer = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// An answer in the order of the commands.
enum Waiting {
    Body(Vec<u8>),
    Verdict(Answer),
}

/// What the loop woke up for.
enum Woken {
    Stop,
    Answered(Vec<u8>),
    Read(std::io::Result<usize>),
    Overdue,
    Closed(CloseReason),
}

/// Speaks with one client until one side ends it. What an nsqd registered is withdrawn before the
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
        opened: None,
        context,
        waiting: VecDeque::new(),
        held_back: None,
        is_exclusive: false,
        owed_until: None,
    };
    let stopped = connection.run(stop).await;
    if !stopped {
        upstream_log::exiting(remote);
        connection.waiting.clear();
        if let Some(Opened { session, .. }) = connection.opened {
            let context = &connection.context;
            context.metrics.session(SessionEvent::Detached);
            context.keeper.close(session).await;
        }
        // Both sides know now; an error here changes nothing.
        let _ = connection.stream.shutdown().await;
    }
}

struct Connection {
    stream: TcpStream,
    remote: SocketAddr,
    context: Arc<Context>,
    session: Session,
    /// Once the client has identified itself.
    opened: Option<Opened>,
    waiting: VecDeque<Waiting>,
    /// A command that must not overtake those that wait.
    held_back: Option<Action>,
    /// Whether what waits must be answered before another command is looked at.
    is_exclusive: bool,
    /// When the command that the client owes must be complete.
    owed_until: Option<Instant>,
}

impl Connection {
    /// Whether it ended because this member is stopping.
    async fn run(&mut self, mut stop: watch::Receiver<bool>) -> bool {
        let mut input = vec![0; INPUT];
        let mut output = Vec::new();
        let mut open = true;
        loop {
            let more = open && self.perform(&mut open).await;
            if !open && self.waiting.is_empty() {
                return false;
            }
            match self.wait(&mut stop, &mut input, open && more).await {
                Woken::Stop => return true,
                Woken::Overdue => {
                    tracing::info!(remote = %self.remote, "no command in time: closing the connection");
                    return false;
                }
                Woken::Closed(reason) => {
                    log_close(self.remote, reason);
                    return false;
                }
                Woken::Read(Ok(0)) => self.session.end_of_input(),
                Woken::Read(Ok(count)) => self.session.receive(&input[..count]),
                Woken::Read(Err(error)) => {
                    tracing::debug!(remote = %self.remote, %error, "connection lost");
                    return false;
                }
                Woken::Answered(body) => {
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
            if self.is_exclusive && !self.waiting.is_empty() {
                return false;
            }
            self.is_exclusive = false;
            let Some(action) = self.held_back.take().or_else(|| self.session.next_action()) else {
                return true;
            };
            self.owed_until = None;
            // As upstream, which does one command after the other: registering a name and giving
            // it up leaves it listed.
            if matches!(action, Action::Release(..)) && !self.waiting.is_empty() {
                self.held_back = Some(action);
                return false;
            }
            if let Some(waiting) = self.act(action, open).await {
                self.waiting.push_back(waiting);
            }
            if !*open {
                return false;
            }
        }
        false
    }

    /// The answer to a command, if there is one.
    async fn act(&mut self, action: Action, open: &mut bool) -> Option<Waiting> {
        let keeper = &self.context.keeper;
        let session = self.opened.as_ref().map(|opened| opened.session);
        match (action, session) {
            (Action::Ping, Some(session)) => Some(Waiting::Verdict(Box::pin(keeper.ping(session)))),
            (Action::Ping, None) => Some(Waiting::Body(OK.to_vec())),
            (Action::Attach(producer, info), _) => {
                let remote = self.remote.to_string();
                upstream_log::identified(&remote, &producer, &info);
                self.context.metrics.session(SessionEvent::Attached);
                self.opened = Some(keeper.identify(producer, info, remote).await);
                Some(Waiting::Body(self.context.introduction()))
            }
            (Action::Claim(topic, channel), Some(session)) => {
                self.log_change(Change::Register, &topic, channel.as_deref());
                let verdict = keeper.register(session, &topic, channel.as_deref());
                Some(Waiting::Verdict(Box::pin(verdict)))
            }
            (Action::Release(topic, channel), Some(session)) => {
                self.is_exclusive = true;
                self.log_change(Change::Unregister, &topic, channel.as_deref());
                let verdict = keeper.unregister(session, &topic, channel.as_deref());
                Some(Waiting::Verdict(Box::pin(verdict)))
            }
            (Action::Claim(..) | Action::Release(..), None) => {
                debug_assert!(false, "the protocol lets nobody register unidentified");
                *open = false;
                None
            }
            (Action::Fail(error), _) => {
                self.context.metrics.session(SessionEvent::ProtocolError);
                self.log_failure(&error);
                *open = false;
                Some(Waiting::Body(error.text()))
            }
            (Action::Close, _) => {
                *open = false;
                None
            }
        }
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
        let overdue_at = self.owed_until.unwrap_or_else(Instant::now);
        let is_owed = self.owed_until.is_some();
        let answered = async {
            match self.waiting.front_mut() {
                Some(Waiting::Body(body)) => std::mem::take(body),
                Some(Waiting::Verdict(verdict)) => self.context.body_of(verdict.await),
                None => std::future::pending().await,
            }
        };
        let closed = async {
            match &mut self.opened {
                Some(opened) => closed(&mut opened.closed).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Woken::Stop,
            reason = closed => Woken::Closed(reason),
            body = answered => {
                self.waiting.pop_front();
                Woken::Answered(body)
            }
            count = self.stream.read(input), if read => Woken::Read(count),
            () = tokio::time::sleep_until(overdue_at.into()), if is_owed => Woken::Overdue,
        }
    }

    fn log_change(&self, change: Change, topic: &str, channel: Option<&str>) {
        upstream_log::registration(self.remote, change, topic, channel);
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

async fn closed(closed: &mut oneshot::Receiver<CloseReason>) -> CloseReason {
    match closed.await {
        Ok(reason) => reason,
        // The session is closed by its connection, not the other way round.
        Err(_) => std::future::pending().await,
    }
}

fn log_close(remote: SocketAddr, reason: CloseReason) {
    match reason {
        CloseReason::TooMuchUndecided => tracing::warn!(
            %remote,
            "the client has registered too much without a quorum: closing its connection"
        ),
        CloseReason::MostUndecided => tracing::warn!(
            %remote,
            "too much waits for a quorum, most of it of this client: closing its connection"
        ),
        CloseReason::PresumedDead => tracing::info!(
            %remote,
            "no PING for too long, and its nsqd has another connection: closing this one"
        ),
        CloseReason::Replaced => tracing::info!(
            %remote,
            "the registry was replaced by a snapshot: closing the connection, nsqd comes back"
        ),
    }
}
