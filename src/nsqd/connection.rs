//! Moves bytes between one socket and its protocol session, and commands to the keeper.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use crate::metrics::SessionEvent;
use crate::nsqd::interface::Interface;
use crate::nsqd::keeper::Opened;
use crate::nsqd::owner::{CloseReason, Verdict};
use crate::nsqd::protocol::error::ProtocolError;
use crate::nsqd::protocol::reply::{OK, frame};
use crate::nsqd::protocol::session::{Action, Session};
use crate::upstream_log::{self, Change};

/// Commands of one client that may wait for their answers; further input is not read.
const WINDOW: usize = 256;

/// The size of the read buffer. Most commands are shorter than a hundred bytes.
const INPUT: usize = 4 * 1024;

/// Deadline for a client that has not identified itself to complete a command; the first is timed
/// from accept. Between commands it may stay silent indefinitely, as at nsqlookupd; a machine that
/// has vanished is detected by TCP keep-alive.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// Deadline for a client to read an answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

type Answer = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// An answer in the order of the commands.
enum Waiting {
    Body(Vec<u8>),
    Verdict(Answer),
}

/// Why the loop woke up.
enum Woken {
    Stop,
    Answered(Vec<u8>),
    Read(std::io::Result<usize>),
    Overdue,
    Closed(CloseReason),
}

/// Serves one client until either side closes. What an nsqd registered is withdrawn before the
/// connection closes, unless this member is stopping.
pub(crate) async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    interface: Arc<Interface>,
    stop: watch::Receiver<bool>,
) {
    upstream_log::new_client(remote);
    let mut connection = Connection {
        stream,
        remote,
        session: Session::new(),
        opened: None,
        interface,
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
            let interface = &connection.interface;
            interface.metrics.session(SessionEvent::Detached);
            interface.keeper.close(session).await;
        }
        // Both sides are done; an error changes nothing.
        let _ = connection.stream.shutdown().await;
    }
}

struct Connection {
    stream: TcpStream,
    remote: SocketAddr,
    interface: Arc<Interface>,
    session: Session,
    /// Once the client has identified itself.
    opened: Option<Opened>,
    waiting: VecDeque<Waiting>,
    /// A command that must not overtake those that wait for their answers.
    held_back: Option<Action>,
    /// Whether the next command must wait until all earlier ones are answered.
    is_exclusive: bool,
    /// When the command that an unidentified client owes must be complete.
    owed_until: Option<Instant>,
}

impl Connection {
    /// Serves until the end; returns whether that is because this member is stopping.
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
                    tracing::info!(remote = %self.remote, "client sent no complete command in time, closing connection");
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

    /// Carries out what has been received; returns whether more can be read now.
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
            // As upstream, which runs commands one by one: a name that is registered and then given up
            // stays listed.
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

    /// Carries out one command; its answer, if it has one.
    async fn act(&mut self, action: Action, open: &mut bool) -> Option<Waiting> {
        let keeper = &self.interface.keeper;
        let session = self.opened.as_ref().map(|opened| opened.session);
        match (action, session) {
            (Action::Ping, Some(session)) => Some(Waiting::Verdict(Box::pin(keeper.ping(session)))),
            (Action::Ping, None) => Some(Waiting::Body(OK.to_vec())),
            (Action::Attach(producer, info), _) => {
                let remote = self.remote.to_string();
                upstream_log::identified(&remote, &producer, &info);
                self.interface.metrics.session(SessionEvent::Attached);
                self.opened = Some(keeper.identify(producer, info, remote).await);
                Some(Waiting::Body(self.interface.identity.body()))
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
                debug_assert!(false, "the protocol refuses registrations before IDENTIFY");
                *open = false;
                None
            }
            (Action::Fail(error), _) => {
                self.interface.metrics.session(SessionEvent::ProtocolError);
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
                Some(Waiting::Verdict(verdict)) => self.interface.body_of(verdict.await),
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
                "HTTP request on the TCP port; point the client at the HTTP port"
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
        // The keeper is gone; the connection ends by itself.
        Err(_) => std::future::pending().await,
    }
}

fn log_close(remote: SocketAddr, reason: CloseReason) {
    match reason {
        CloseReason::TooMuchUndecided => tracing::warn!(
            %remote,
            "too many registrations of this client wait for a quorum, closing connection"
        ),
        CloseReason::MostUndecided => tracing::warn!(
            %remote,
            "too many registrations wait for a quorum, most of them of this client, closing connection"
        ),
        CloseReason::PresumedDead => tracing::info!(
            %remote,
            "no PING within --inactive-producer-timeout, and the nsqd has another connection, closing this one"
        ),
        CloseReason::TooManySessions => tracing::warn!(
            %remote,
            "too many connections announce the same nsqd, closing the one that is silent for longest"
        ),
        CloseReason::Replaced => tracing::info!(
            %remote,
            "registry replaced by a snapshot, closing connection; nsqd reconnects"
        ),
    }
}
