//! Runs the V1 protocol of one connection: bytes in, actions out. PURE.
//!
//! The shell passes what it reads to [`Session::receive`] and takes actions from
//! [`Session::next_action`] until there are none. [`Action::Fail`] or [`Action::Close`] is the last
//! one: commands pipelined after an error are not run.

use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};

use crate::nsqd::protocol::command::{Command, topic_and_channel};
use crate::nsqd::protocol::error::ProtocolError;
use crate::nsqd::protocol::identify;
use crate::nsqd::protocol::verb::Verb;

/// The first bytes of every connection.
pub(crate) const MAGIC: &[u8; 4] = b"  V1";

/// The longest line, in bytes. Two names of 64 bytes and a command need 150.
pub(crate) const LONGEST_LINE: usize = 16 * 1024;

/// The longest IDENTIFY body, in bytes. nsqd's has a few hundred.
pub(crate) const LONGEST_BODY: usize = 256 * 1024;

/// The input buffer that a connection keeps.
const KEPT_INPUT: usize = 4 * 1024;

/// What the shell must do about a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer `OK`, and note that the nsqd is alive.
    Ping,
    /// Attach the nsqd, then answer with this member's identity.
    Attach(ProducerId, PeerInfo),
    /// Make the claim, then answer.
    Claim(String, Option<String>),
    /// Release the claim, then answer.
    Release(String, Option<String>),
    /// Answer the error, then close.
    Fail(ProtocolError),
    /// Close without an answer.
    Close,
}

/// What is expected next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Magic,
    Line,
    BodySize,
    Body(usize),
    Nothing,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    expect: Expect,
    identified: bool,
    /// Whether a command has been completed.
    commanded: bool,
    ended: bool,
    input: Vec<u8>,
    /// The number of bytes of `input` that have been consumed.
    read: usize,
    /// The number of bytes of `input` known to hold no LF.
    searched: usize,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// The state before the first byte.
    pub fn new() -> Self {
        Session {
            expect: Expect::Magic,
            identified: false,
            commanded: false,
            ended: false,
            input: Vec::new(),
            read: 0,
            searched: 0,
        }
    }

    /// Whether the client is unidentified, and has begun a command or not yet completed its first.
    pub(crate) fn owes_command(&self) -> bool {
        let has_begun = self.expect != Expect::Line || self.read < self.input.len();
        !self.identified && (has_begun || !self.commanded)
    }

    /// Takes bytes read from the connection. Memory is bounded if the caller takes all actions before
    /// it reads more.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.drain(..self.read);
        self.searched -= self.read;
        self.read = 0;
        // Memory for a long IDENTIFY is not kept for the rest of the connection.
        if self.input.len() + bytes.len() <= KEPT_INPUT {
            self.input.shrink_to(KEPT_INPUT);
        }
        self.input.extend_from_slice(bytes);
    }

    /// The client has closed its side.
    pub(crate) fn end_of_input(&mut self) {
        self.ended = true;
    }

    /// The next action; `None` until more is received.
    pub fn next_action(&mut self) -> Option<Action> {
        loop {
            let action = match self.expect {
                Expect::Magic => self.magic(),
                Expect::Line => self.line(),
                Expect::BodySize => self.body_size(),
                Expect::Body(size) => self.body(size),
                Expect::Nothing => return None,
            };
            match action {
                Step::Wait if self.ended => return self.cut_off(),
                Step::Wait => return None,
                Step::Go => {}
                Step::Do(action) => {
                    self.commanded = true;
                    if matches!(action, Action::Fail(_) | Action::Close) {
                        self.expect = Expect::Nothing;
                    }
                    return Some(action);
                }
            }
        }
    }

    /// The first bytes, for a hint about the client's protocol.
    pub(crate) fn opening(&self) -> &[u8] {
        &self.input[..self.input.len().min(MAGIC.len())]
    }

    fn magic(&mut self) -> Step {
        match self.take(MAGIC.len()) {
            None => Step::Wait,
            Some(magic) if magic == MAGIC => {
                self.expect = Expect::Line;
                Step::Go
            }
            Some(_) => Step::fail(ProtocolError::BadMagic),
        }
    }

    fn line(&mut self) -> Step {
        let end = self.input[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        let length = end.map_or(self.input.len(), |end| self.searched + end) - self.read;
        if length > LONGEST_LINE {
            return Step::fail(ProtocolError::LineTooLong);
        }
        if end.is_none() {
            self.searched = self.input.len();
            return Step::Wait;
        }
        let line = self.input[self.read..self.read + length].to_vec();
        self.read += length + 1;
        self.searched = self.read;
        match Command::parse(&line) {
            Ok(Command::Ping) => Step::Do(Action::Ping),
            Ok(Command::Identify) if self.identified => Step::fail(ProtocolError::IdentifyAgain),
            Ok(Command::Identify) => {
                self.expect = Expect::BodySize;
                Step::Go
            }
            Ok(Command::Registration(..)) if !self.identified => {
                Step::fail(ProtocolError::MustIdentify)
            }
            Ok(Command::Registration(verb, names)) => match topic_and_channel(verb, &names) {
                Ok((topic, channel)) => Step::Do(match verb {
                    Verb::Register => Action::Claim(topic, channel),
                    Verb::Unregister => Action::Release(topic, channel),
                }),
                Err(error) => Step::fail(error),
            },
            Err(error) => Step::fail(error),
        }
    }

    fn body_size(&mut self) -> Step {
        let Some(size) = self.take(4).and_then(|size| <[u8; 4]>::try_from(size).ok()) else {
            return Step::Wait;
        };
        match usize::try_from(i32::from_be_bytes(size)) {
            Ok(size) if size <= LONGEST_BODY => {
                self.expect = Expect::Body(size);
                Step::Go
            }
            _ => Step::fail(ProtocolError::BodySizeInvalid),
        }
    }

    fn body(&mut self, size: usize) -> Step {
        let Some(body) = self.take(size) else {
            return Step::Wait;
        };
        match identify::parse(&body) {
            Ok((producer, info)) => {
                self.expect = Expect::Line;
                self.identified = true;
                Step::Do(Action::Attach(producer, info))
            }
            Err(error) => Step::fail(error),
        }
    }

    fn cut_off(&mut self) -> Option<Action> {
        let action = match self.expect {
            Expect::BodySize => Action::Fail(ProtocolError::BodySizeCut),
            Expect::Body(_) => Action::Fail(ProtocolError::BodyCut),
            Expect::Magic | Expect::Line | Expect::Nothing => Action::Close,
        };
        self.expect = Expect::Nothing;
        Some(action)
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let taken = self.input.get(self.read..self.read + count)?.to_vec();
        self.read += count;
        self.searched = self.read;
        Some(taken)
    }
}

enum Step {
    Wait,
    Go,
    Do(Action),
}

impl Step {
    fn fail(error: ProtocolError) -> Step {
        Step::Do(Action::Fail(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_owes_a_command() {
        let mut session = Session::new();
        for (bytes, owes) in [
            (&b""[..], true),
            (b"  V", true),
            (b"1", true),
            (b"PI", true),
            (b"NG\n", false),
            (b"IDENTIFY\n", true),
            (b"\0\0\0\x48{\"broadcast_address\":\"h\",", true),
            (
                b"\"tcp_port\":1,\"http_port\":2,\"version\":\"1\",\"x\":1}",
                false,
            ),
            (b"REGISTER t", false),
        ] {
            session.receive(bytes);
            while session.next_action().is_some() {}
            assert_eq!(session.owes_command(), owes, "{}", bytes.escape_ascii());
        }
    }

    const BODY: &str =
        r#"{"broadcast_address":"h1","tcp_port":4150,"http_port":4151,"version":"v"}"#;

    fn identify(body: &str) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [b"IDENTIFY\n".as_slice(), &length, body.as_bytes()].concat()
    }

    /// The conversation as short words, fed in pieces of this many bytes.
    fn converse(bytes: &[u8], piece: usize) -> Vec<String> {
        let mut session = Session::new();
        let mut said = Vec::new();
        let mut take = |session: &mut Session| {
            while let Some(action) = session.next_action() {
                said.push(match action {
                    Action::Ping => "ping".into(),
                    Action::Attach(id, _) => format!("attach {}", id.broadcast_address),
                    Action::Claim(topic, channel) => format!("claim {topic} {channel:?}"),
                    Action::Release(topic, channel) => format!("release {topic} {channel:?}"),
                    Action::Fail(error) => String::from_utf8(error.text()).unwrap(),
                    Action::Close => "close".into(),
                });
            }
        };
        for piece in bytes.chunks(piece) {
            session.receive(piece);
            take(&mut session);
        }
        session.end_of_input();
        take(&mut session);
        said
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &[&str]) {
        for piece in [1, 3, 7, bytes.len().max(1)] {
            assert_eq!(converse(bytes, piece), expected, "in pieces of {piece}");
        }
    }

    fn after_magic(rest: &[u8]) -> Vec<u8> {
        [MAGIC, rest].concat()
    }

    #[test]
    fn a_whole_conversation() {
        let mut bytes = after_magic(b"PING\n");
        bytes.extend(identify(BODY));
        bytes.extend(b"REGISTER t c\r\nREGISTER t\nUNREGISTER t c\nUNREGISTER t\nPING\nPING");
        check(
            &bytes,
            &[
                "ping",
                "attach h1",
                r#"claim t Some("c")"#,
                "claim t None",
                r#"release t Some("c")"#,
                "release t None",
                "ping",
                "close",
            ],
        );
    }

    #[test]
    fn what_is_not_v1() {
        check(b"", &["close"]);
        check(b"  V", &["close"]);
        check(b"  V2", &["E_BAD_PROTOCOL"]);
        check(b"GET / HTTP/1.1\r\n\r\n", &["E_BAD_PROTOCOL"]);
    }

    #[test]
    fn nothing_follows_an_error() {
        check(&after_magic(b"\nPING\n"), &["E_INVALID invalid command "]);
        check(
            &after_magic(b"NOPE x\nPING\n"),
            &["E_INVALID invalid command NOPE"],
        );
        check(
            &after_magic(b"REGISTER\nPING\n"),
            &["E_INVALID client must IDENTIFY"],
        );
    }

    #[test]
    fn identify_happens_once() {
        let twice = [after_magic(&identify(BODY)), identify(BODY)].concat();
        check(&twice, &["attach h1", "E_INVALID cannot IDENTIFY again"]);
    }

    #[test]
    fn identify_bodies_that_are_none() {
        for (rest, error) in [
            (
                &b"IDENTIFY\n"[..],
                "E_BAD_BODY IDENTIFY failed to read body size",
            ),
            (
                b"IDENTIFY\n\0\0",
                "E_BAD_BODY IDENTIFY failed to read body size",
            ),
            (
                b"IDENTIFY\n\0\0\0\x05{}",
                "E_BAD_BODY IDENTIFY failed to read body",
            ),
            (
                b"IDENTIFY\n\0\0\0\0",
                "E_BAD_BODY IDENTIFY failed to decode JSON body",
            ),
            (
                b"IDENTIFY\n\0\0\0\x02{}",
                "E_BAD_BODY IDENTIFY missing fields",
            ),
            (
                b"IDENTIFY\n\xff\xff\xff\xff{}",
                "E_BAD_BODY IDENTIFY invalid body size",
            ),
            (
                b"IDENTIFY\n\x7f\xff\xff\xff{}",
                "E_BAD_BODY IDENTIFY invalid body size",
            ),
        ] {
            check(&after_magic(rest), &[error]);
        }
    }

    #[test]
    fn a_line_without_end_ends_the_conversation() {
        let mut session = Session::new();
        session.receive(MAGIC);
        let mut sent = 0;
        loop {
            session.receive(&[b'x'; 1000]);
            sent += 1000;
            match session.next_action() {
                None => assert!(sent <= LONGEST_LINE),
                Some(action) => {
                    assert_eq!(action, Action::Fail(ProtocolError::LineTooLong));
                    break;
                }
            }
        }
        let long_but_honest = [b"PING ".as_slice(), &vec![b'x'; 1000], b"\n"].concat();
        check(&after_magic(&long_but_honest), &["ping", "close"]);
    }
}
