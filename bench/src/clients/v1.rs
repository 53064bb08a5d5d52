//! An nsqd's connection to a member: V1 commands and their answers.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clients::connect;
use crate::error::{Error, Result};

/// No honest answer is longer, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// Lines that are sent without waiting for their answers, when pipelining.
const WINDOW: usize = 256;

/// What a command was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// `OK`.
    Ok,
    /// `E_UNAVAILABLE`: raftlookupd could not say yet; it goes on trying.
    Unavailable,
}

/// A session with one member.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    /// The bytes of `input` that are done with.
    taken: usize,
}

impl Session {
    /// Connects and identifies as an nsqd.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Closed`], [`Error::Answer`].
    pub(crate) async fn open(address: SocketAddr, host: &str) -> Result<Session> {
        let stream = connect(address).await?;
        let mut session = Session {
            stream,
            output: Vec::new(),
            input: Vec::with_capacity(16 * 1024),
            taken: 0,
        };
        let body = serde_json::json!({
            "broadcast_address": host,
            "hostname": host,
            "tcp_port": 4150,
            "http_port": 4151,
            "version": "1.3.0",
        });
        let body = body.to_string();
        session.output.extend_from_slice(b"  V1IDENTIFY\n");
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        session.output.extend_from_slice(&length.to_be_bytes());
        session.output.extend_from_slice(body.as_bytes());
        session.flush().await?;
        let (from, to) = session.answer().await?;
        match &session.input[from..to] {
            [b'{', ..] => Ok(session),
            other => Err(unexpected(other)),
        }
    }

    /// Sends one line and waits for its answer, as nsqd does.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(crate) async fn command(&mut self, line: &str) -> Result<Said> {
        self.write_line(line);
        self.flush().await?;
        self.said().await
    }

    /// Sends the lines with many of them on their way at a time; how many were answered
    /// [`Said::Unavailable`].
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(crate) async fn pipeline(&mut self, lines: impl Iterator<Item = String>) -> Result<usize> {
        let mut lines = lines.peekable();
        let (mut waiting, mut unavailable) = (0, 0);
        while lines.peek().is_some() || waiting > 0 {
            for line in lines.by_ref().take(WINDOW / 2) {
                self.write_line(&line);
                waiting += 1;
            }
            self.flush().await?;
            let rest = if lines.peek().is_some() {
                WINDOW / 2
            } else {
                0
            };
            while waiting > rest {
                unavailable += usize::from(self.said().await? == Said::Unavailable);
                waiting -= 1;
            }
        }
        Ok(unavailable)
    }

    /// Says that it lives.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(crate) async fn ping(&mut self) -> Result<Said> {
        self.command("PING").await
    }

    fn write_line(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.push(b'\n');
    }

    async fn flush(&mut self) -> Result<()> {
        let wrote = self.stream.write_all(&self.output).await;
        self.output.clear();
        wrote.map_err(Error::io("send a command"))
    }

    async fn said(&mut self) -> Result<Said> {
        let (from, to) = self.answer().await?;
        said(&self.input[from..to])
    }

    /// Where in `input` the next answer stands.
    async fn answer(&mut self) -> Result<(usize, usize)> {
        loop {
            if let Some(length) = frame_length(&self.input[self.taken..])? {
                let from = self.taken + 4;
                self.taken = from + length;
                return Ok((from, self.taken));
            }
            self.input.drain(..self.taken);
            self.taken = 0;
            let count = self.stream.read_buf(&mut self.input).await;
            if count.map_err(Error::io("read an answer"))? == 0 {
                return Err(Error::Closed);
            }
        }
    }
}

/// The length of the answer that stands there behind its length; `None` until all of it is there.
fn frame_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > LONGEST_ANSWER {
        return Err(Error::Answer(format!("one of {length} bytes")));
    }
    Ok((rest.len() >= length).then_some(length))
}

fn said(answer: &[u8]) -> Result<Said> {
    match answer {
        b"OK" => Ok(Said::Ok),
        _ if answer.starts_with(b"E_UNAVAILABLE") => Ok(Said::Unavailable),
        _ => Err(unexpected(answer)),
    }
}

fn unexpected(answer: &[u8]) -> Error {
    Error::Answer(String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        for (bytes, length) in [
            (&b""[..], None),
            (&[0, 0, 0], None),
            (&[0, 0, 0, 2, b'O'], None),
            (&[0, 0, 0, 2, b'O', b'K'], Some(2)),
            (&[0, 0, 0, 2, b'O', b'K', 0], Some(2)),
            (&[0, 0, 0, 0], Some(0)),
        ] {
            assert_eq!(frame_length(bytes).unwrap(), length, "{bytes:?}");
        }
        assert!(frame_length(&[255, 0, 0, 0]).is_err());
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(said(b"OK").unwrap(), Said::Ok);
        assert_eq!(said(b"E_UNAVAILABLE no quorum").unwrap(), Said::Unavailable);
        let error = said(b"E_INVALID client must IDENTIFY").unwrap_err();
        assert!(error.to_string().contains("must IDENTIFY"), "{error}");
    }
}
