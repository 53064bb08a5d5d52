//! One connection of a conversation: V1 or HTTP, byte for byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::DEADLINE;

pub struct Connection {
    stream: TcpStream,
    /// Received, not looked at yet.
    input: Vec<u8>,
    /// What was said last, if that was one command.
    pub last_command: Option<Vec<u8>>,
    /// Said again and again while something is waited for.
    pub kept: Option<Vec<u8>>,
    /// The last request was a HEAD, so its response has no body.
    head_only: bool,
}

/// What came back over HTTP.
#[derive(Debug)]
pub struct Received {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Connection {
    pub fn open(port: u16) -> Result<Connection, String> {
        let open = || {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            Ok(stream)
        };
        let stream = open().map_err(|error: std::io::Error| error.to_string())?;
        Ok(Connection {
            stream,
            input: Vec::new(),
            last_command: None,
            kept: None,
            head_only: false,
        })
    }

    /// Where the connection comes from, for the server.
    pub fn remote(&self) -> String {
        let address = self.stream.local_addr();
        address.map_or_else(|error| error.to_string(), |address| address.to_string())
    }

    /// That a server has closed the connection already is for the next answer to tell.
    pub fn send(&mut self, bytes: &[u8]) {
        self.head_only = bytes.starts_with(b"HEAD ");
        let _ = self.stream.write_all(bytes);
    }

    pub fn send_command(&mut self, bytes: &[u8]) {
        self.send(bytes);
        self.last_command = Some(bytes.to_vec());
    }

    /// Nothing more is said.
    pub fn end_input(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends with a reset instead of an orderly close.
    pub fn break_off(self) {
        let socket = socket2::SockRef::from(&self.stream);
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// What is left until the server closes the connection.
    pub fn rest(&mut self) -> Result<Vec<u8>, String> {
        while self.receive()? {}
        Ok(std::mem::take(&mut self.input))
    }

    /// The next V1 answer; `None` if the connection is closed instead.
    pub fn answer(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(length) = self.take(4)? else {
            return Ok(None);
        };
        let length = length
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        match self.take(length)? {
            Some(answer) => Ok(Some(answer)),
            None => Err(format!("an answer of {length} bytes is cut off")),
        }
    }

    /// The next HTTP response.
    pub fn response(&mut self) -> Result<Received, String> {
        loop {
            let head = self.take_until(b"\r\n\r\n")?;
            let head = String::from_utf8_lossy(&head).into_owned();
            let mut received = parse_head(&head)?;
            // 100 Continue comes before the response proper.
            if received.status >= 200 {
                received.body = self.body(&received)?;
                return Ok(received);
            }
        }
    }

    fn body(&mut self, head: &Received) -> Result<Vec<u8>, String> {
        if self.head_only {
            return Ok(Vec::new());
        }
        if head.header("transfer-encoding") == Some("chunked") {
            return self.chunks();
        }
        match head.header("content-length").map(str::parse) {
            Some(Ok(length)) => Ok(self.take(length)?.ok_or("the body is cut off")?),
            Some(Err(_)) => Err("a bad Content-Length".into()),
            None => self.rest(),
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let size = String::from_utf8_lossy(&self.take_until(b"\r\n")?).into_owned();
            let size =
                usize::from_str_radix(&size, 16).map_err(|_| format!("a chunk of {size}"))?;
            body.extend(self.take(size)?.ok_or("a chunk is cut off")?);
            self.take_until(b"\r\n")?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// `None` if the connection is closed before any of it.
    fn take(&mut self, count: usize) -> Result<Option<Vec<u8>>, String> {
        while self.input.len() < count {
            if !self.receive()? {
                return match self.input.len() {
                    0 => Ok(None),
                    length => Err(format!("closed after {length} of {count} bytes")),
                };
            }
        }
        Ok(Some(self.input.drain(..count).collect()))
    }

    /// What comes before this end, without it.
    fn take_until(&mut self, end: &[u8]) -> Result<Vec<u8>, String> {
        loop {
            let mut windows = self.input.windows(end.len());
            if let Some(at) = windows.position(|window| window == end) {
                let mut taken: Vec<u8> = self.input.drain(..at + end.len()).collect();
                taken.truncate(at);
                return Ok(taken);
            }
            if !self.receive()? {
                let input = self.input.escape_ascii();
                return Err(format!("closed after \"{input}\""));
            }
        }
    }

    /// Reads more; false at the end of the connection.
    fn receive(&mut self) -> Result<bool, String> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.input.extend(&bytes[..count]);
                Ok(true)
            }
            // The server closed it while something that we sent was still unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(format!("no answer: {error}")),
        }
    }
}

fn parse_head(head: &str) -> Result<Received, String> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.to_ascii_lowercase(), value.trim().to_string())
    });
    Ok(Received {
        status: status.ok_or(format!("no status: {head:?}"))?,
        headers: headers.collect(),
        body: Vec::new(),
    })
}
