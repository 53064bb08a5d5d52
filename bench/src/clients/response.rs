//! Reads an HTTP/1.1 response piece by piece as it arrives. PURE.

use crate::error::{Error, Result};

/// The longest head, in bytes. Those of lookups have some two hundred.
const LONGEST_HEAD: usize = 16 * 1024;

/// How far a response has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes of the body are missing.
    Length(u64),
    ChunkSize,
    /// So many bytes of the chunk and its line end are missing.
    Chunk(u64),
    /// The line end behind the last chunk.
    Trailer,
    Done,
}

/// One response; used again for the next one on the same connection.
#[derive(Debug)]
pub(crate) struct Response {
    state: State,
    status: u16,
    stale: bool,
    /// What is not understood yet: an unfinished head or chunk size.
    pending: Vec<u8>,
    body_length: u64,
    body: Option<Vec<u8>>,
}

impl Response {
    /// A reader that counts the bytes of bodies and forgets them.
    pub(crate) fn new() -> Self {
        Response {
            state: State::Head,
            status: 0,
            stale: false,
            pending: Vec::new(),
            body_length: 0,
            body: None,
        }
    }

    /// Begins with the next response; its body can be kept.
    pub(crate) fn begin(&mut self, keep_body: bool) {
        self.state = State::Head;
        self.status = 0;
        self.stale = false;
        self.pending.clear();
        self.body_length = 0;
        self.body = keep_body.then(|| {
            let mut body = self.body.take().unwrap_or_default();
            body.clear();
            body
        });
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Whether raftlookupd marked the answer as possibly stale.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// In bytes, as the client of a higher level sees it.
    pub(crate) fn body_length(&self) -> u64 {
        self.body_length
    }

    /// The body, if it was to be kept.
    pub(crate) fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    /// Takes what was read; whether the response is complete now.
    ///
    /// # Errors
    /// [`Error::Answer`] on anything but an HTTP response, and on bytes behind its end: nothing
    /// is pipelined here.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<bool> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Length(left) => self.data(bytes, left, State::Length, State::Done),
                State::Chunk(left) => self.chunk(bytes, left),
                State::ChunkSize => self.chunk_size(bytes)?,
                State::Trailer => self.trailer(bytes)?,
                State::Done => return Err(bad("bytes behind the end of the response")),
            };
        }
        Ok(self.state == State::Done)
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let known = self.pending.len();
        let whole: &[u8] = if known == 0 {
            bytes
        } else {
            self.pending.extend_from_slice(bytes);
            &self.pending
        };
        let parsed = response.parse(whole);
        let parsed = parsed.map_err(|error| bad(&error.to_string()))?;
        let httparse::Status::Complete(end) = parsed else {
            if whole.len() > LONGEST_HEAD {
                return Err(bad("an endless head"));
            }
            if known == 0 {
                self.pending.extend_from_slice(bytes);
            }
            return Ok(&[]);
        };
        self.status = response.code.unwrap_or_default();
        let mut state = State::Length(0);
        for header in response.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = std::str::from_utf8(header.value).ok();
                let length = length.and_then(|length| length.trim().parse().ok());
                state = State::Length(length.ok_or_else(|| bad("a bad Content-Length"))?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                state = State::ChunkSize;
            } else if header
                .name
                .eq_ignore_ascii_case("x-raftlookupd-consistency")
            {
                self.stale = header.value == b"stale";
            }
        }
        self.state = match state {
            State::Length(0) => State::Done,
            state => state,
        };
        self.pending.clear();
        Ok(&bytes[end - known..])
    }

    fn chunk_size<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let known = self.pending.len();
        self.pending
            .extend_from_slice(&bytes[..bytes.len().min(32)]);
        match httparse::parse_chunk_size(&self.pending) {
            Ok(httparse::Status::Complete((end, size))) => {
                self.pending.clear();
                self.state = match size {
                    0 => State::Trailer,
                    size => State::Chunk(size.saturating_add(2)),
                };
                Ok(&bytes[end - known..])
            }
            // All of it was looked at, unless there is more of one chunk size than there can be.
            Ok(httparse::Status::Partial) if bytes.len() <= 32 => Ok(&[]),
            _ => Err(bad("a bad chunk size")),
        }
    }

    fn chunk<'a>(&mut self, bytes: &'a [u8], left: u64) -> &'a [u8] {
        // The last two bytes are the line end, which belongs to no body.
        if left > 2 {
            let behind = |left| State::Chunk(left + 2);
            return self.data(bytes, left - 2, behind, State::Chunk(2));
        }
        self.state = match left {
            2 => State::Chunk(1),
            _ => State::ChunkSize,
        };
        &bytes[1..]
    }

    /// Bytes of the body, of which so many are missing.
    fn data<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        more: impl Fn(u64) -> State,
        finished: State,
    ) -> &'a [u8] {
        let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (data, rest) = bytes.split_at(taken);
        self.body_length += data.len() as u64;
        if let Some(body) = &mut self.body {
            body.extend_from_slice(data);
        }
        let left = left - data.len() as u64;
        self.state = if left == 0 { finished } else { more(left) };
        rest
    }

    fn trailer<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        self.pending.push(bytes[0]);
        match self.pending.as_slice() {
            b"\r" => {}
            b"\r\n" => self.state = State::Done,
            _ => return Err(bad("a trailer behind the last chunk")),
        }
        Ok(&bytes[1..])
    }
}

fn bad(what: &str) -> Error {
    Error::Answer(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 5\r\n\r\nhello";
    const EMPTY: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    const STALE: &[u8] = b"HTTP/1.1 200 OK\r\nX-Raftlookupd-Consistency: stale\r\n\
        Content-Length: 5\r\n\r\nhello";

    /// Feeds it in pieces of this many bytes.
    fn read(bytes: &[u8], piece: usize) -> (u16, bool, String) {
        let mut response = Response::new();
        response.begin(true);
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        for (number, part) in pieces.iter().enumerate() {
            let done = response.feed(part).unwrap();
            assert_eq!(done, number + 1 == pieces.len(), "piece {number}");
        }
        assert_eq!(response.body_length(), response.body().len() as u64);
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        (response.status(), response.is_stale(), body)
    }

    #[test]
    fn responses_are_read_however_they_arrive() {
        for piece in [1, 2, 3, 7, 40, 4096] {
            assert_eq!(read(PLAIN, piece), (200, false, "hello".into()));
            assert_eq!(read(EMPTY, piece), (404, false, String::new()));
            assert_eq!(read(CHUNKED, piece), (200, false, "hello".into()));
            assert_eq!(read(STALE, piece), (200, true, "hello".into()));
        }
    }

    #[test]
    fn a_large_chunk_is_counted() {
        let body = vec![b'x'; 100_000];
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n".to_vec();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        let mut response = Response::new();
        response.begin(false);
        for piece in bytes.chunks(4096) {
            response.feed(piece).unwrap();
        }
        assert_eq!(response.body_length(), 100_000);
        assert!(response.body().is_empty());
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        for bytes in [
            &b"  V1"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nsurplus",
        ] {
            let mut response = Response::new();
            response.begin(false);
            let text = String::from_utf8_lossy(bytes);
            assert!(response.feed(bytes).is_err(), "{text}");
        }
    }
}
