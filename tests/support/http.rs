//! One HTTP exchange, as a consumer or nsqadmin makes it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::DEADLINE;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    /// As text; `bytes` has what is none.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Whether the answer says that it may miss the newest changes.
    pub fn is_stale(&self) -> bool {
        self.header("X-Raftlookupd-Consistency") == Some("stale")
    }
}

/// `None` if the server cannot be reached or breaks off.
pub fn request(port: u16, method: &str, target: &str) -> Option<Answer> {
    Client::new(port).exchange(method, target, "", "close")
}

/// The same with a body.
pub fn send(port: u16, method: &str, target: &str, body: &str) -> Option<Answer> {
    Client::new(port).exchange(method, target, body, "close")
}

/// For what takes its time.
pub fn request_patiently(port: u16, target: &str) -> Option<Answer> {
    let stream = connect(port)?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let mut client = Client {
        port,
        stream: Some(BufReader::new(stream)),
    };
    client.exchange("GET", target, "", "close")
}

/// A client that keeps its connection.
pub struct Client {
    port: u16,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(port: u16) -> Client {
        Client { port, stream: None }
    }

    /// One question; on a new connection if the old one fails.
    pub fn get(&mut self, target: &str) -> Option<Answer> {
        let kept = self.stream.is_some();
        let answer = self.exchange("GET", target, "", "keep-alive");
        if answer.is_none() && kept {
            return self.exchange("GET", target, "", "keep-alive");
        }
        answer
    }

    fn exchange(
        &mut self,
        method: &str,
        target: &str,
        body: &str,
        connection: &str,
    ) -> Option<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(self.port)?),
        };
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\
             Connection: {connection}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let answer = read_answer(&mut stream)?;
        self.stream = (connection == "keep-alive").then_some(stream);
        Some(answer)
    }
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_nodelay(true).ok()?;
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).ok()?;
    Some(stream)
}

fn read_answer(stream: &mut BufReader<TcpStream>) -> Option<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut answer = Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head: head.trim_end().to_string(),
        body: String::new(),
        bytes: Vec::new(),
    };
    let length = answer.header("Content-Length");
    let length: usize = length
        .expect("answers are expected with their length")
        .parse()
        .ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    answer.body = String::from_utf8_lossy(&body).into_owned();
    answer.bytes = body;
    Some(answer)
}
