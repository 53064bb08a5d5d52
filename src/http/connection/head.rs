//! What nsqlookupd's server, Go's, makes of the head of a request. PURE.
//!
//! Go and hyper disagree on the edges: a `#` in a target, a missing `Host`, what is answered to
//! nonsense. So a head is read here, by Go's rules, and what is passed on to hyper is a clean one
//! with the few fields that matter.

use std::fmt::Write;

/// Longer heads are refused. No honest one is nearly as long; upstream allows a megabyte.
pub(super) const LONGEST_HEAD: usize = 64 * 1024;

/// What has arrived so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is needed.
    Incomplete,
    /// A whole head.
    Head(Head),
    /// It is answered with an error, and the connection closed.
    Malformed(Malformed),
}

/// The head of one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its bytes, with the empty line at its end.
    pub(super) length: usize,
    /// The same request without what makes no difference here.
    pub(super) clean: Vec<u8>,
    /// What follows.
    pub(super) body: BodyLength,
    /// Whether it is a POST.
    pub(super) is_post: bool,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    Bytes(u64),
    Chunked,
}

/// Why a request is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("400 Bad Request")]
    BadRequest,
    #[error("400 Bad Request: missing required Host header")]
    MissingHost,
    #[error("400 Bad Request: malformed Host header")]
    BadHost,
    #[error("400 Bad Request: invalid header value")]
    InvalidValue,
    #[error("505 HTTP Version Not Supported: unsupported protocol version")]
    Version,
    #[error("431 Request Header Fields Too Large")]
    TooLarge,
    #[error("501 Not Implemented")]
    TransferEncoding,
    #[error("417 Expectation Failed")]
    Expectation,
}

impl Malformed {
    /// The whole answer, as Go writes it.
    pub(super) fn answer(self) -> String {
        let text = self.to_string();
        let status = text.split(':').next().unwrap_or_default();
        let body = match self {
            Malformed::TransferEncoding => "Unsupported transfer encoding",
            Malformed::Expectation => {
                return format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                );
            }
            _ => &text,
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }
}

/// Reads one head as its bytes arrive.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Up to here there is no end of the head.
    searched: usize,
    line_is_good: bool,
}

impl HeadReader {
    /// Looks at all that has arrived of this head, and maybe of what follows it.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Progress {
        // As Go, which reads line by line: a bad first line is answered at once.
        if !self.line_is_good
            && let Some(end) = bytes.iter().position(|byte| *byte == b'\n')
        {
            if let Err(malformed) = RequestLine::parse(line(&bytes[..end])) {
                return Progress::Malformed(malformed);
            }
            self.line_is_good = true;
        }
        match end_of_head(bytes, self.searched) {
            Some(length) if length <= LONGEST_HEAD => match parse(&bytes[..length]) {
                Ok((clean, body)) => Progress::Head(Head {
                    length,
                    is_post: clean.starts_with(b"POST "),
                    clean,
                    body,
                }),
                Err(malformed) => Progress::Malformed(malformed),
            },
            None if bytes.len() <= LONGEST_HEAD => {
                // The empty line may have begun to arrive.
                self.searched = bytes.len().saturating_sub(2);
                Progress::Incomplete
            }
            _ => Progress::Malformed(Malformed::TooLarge),
        }
    }
}

/// Behind the first empty line; lines end with LF, or CR and LF.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let ends = bytes.iter().enumerate().skip(from);
    ends.filter(|(_, byte)| **byte == b'\n')
        .find_map(|(at, _)| match &bytes[at + 1..] {
            [b'\n', ..] => Some(at + 2),
            [b'\r', b'\n', ..] => Some(at + 3),
            _ => None,
        })
}

fn line(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

struct RequestLine<'a> {
    method: &'a str,
    target: &'a [u8],
    minor: u8,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let (method, rest) = cut(line, b' ').ok_or(Malformed::BadRequest)?;
        let (target, version) = cut(rest, b' ').ok_or(Malformed::BadRequest)?;
        let method = std::str::from_utf8(method).map_err(|_| Malformed::BadRequest)?;
        if !is_token(method.as_bytes()) || !is_target(target) {
            return Err(Malformed::BadRequest);
        }
        let minor = match version {
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                match major {
                    b'1' => minor.min(&b'1') - b'0',
                    _ => return Err(Malformed::Version),
                }
            }
            _ => return Err(Malformed::BadRequest),
        };
        Ok(RequestLine {
            method,
            target,
            minor,
        })
    }

    fn write(&self, clean: &mut Vec<u8>) {
        clean.extend_from_slice(self.method.as_bytes());
        clean.push(b' ');
        for byte in self.target {
            match byte {
                // A `#` is data to Go. What else is no part of a URI comes to the same.
                b'#' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                    let mut escaped = String::with_capacity(3);
                    // Writing to a string does not fail.
                    let _ = write!(escaped, "%{byte:02X}");
                    clean.extend_from_slice(escaped.as_bytes());
                }
                byte => clean.push(*byte),
            }
        }
        clean.extend_from_slice(b" HTTP/1.");
        clean.push(b'0' + self.minor);
        clean.extend_from_slice(b"\r\n");
    }
}

fn cut(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..position], &bytes[position + 1..]))
}

fn is_token(bytes: &[u8]) -> bool {
    let is_token_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_token_byte)
}

/// A path, or an absolute URI; with escapes that can be read in the path.
fn is_target(target: &[u8]) -> bool {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
    let is_absolute = || cut(path, b':').is_some_and(|(scheme, _)| is_scheme(scheme));
    let escapes_are_good = || {
        let mut escapes = path.split(|byte| *byte == b'%').skip(1);
        escapes.all(
            |after| matches!(after, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()),
        )
    };
    let no_control = !target.iter().any(u8::is_ascii_control);
    no_control && (path == b"*" || path.starts_with(b"/") || is_absolute()) && escapes_are_good()
}

fn is_scheme(scheme: &[u8]) -> bool {
    let is_scheme_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(is_scheme_byte)
}

/// What is passed on of a head, and how long the body is.
fn parse(head: &[u8]) -> Result<(Vec<u8>, BodyLength), Malformed> {
    let mut lines = head.split(|byte| *byte == b'\n').map(line);
    let request = RequestLine::parse(lines.next().unwrap_or_default())?;
    let fields = Fields::parse(lines)?;
    let body = fields.body(request.minor)?;
    match fields.host {
        None if request.minor == 1 && request.method != "CONNECT" => {
            return Err(Malformed::MissingHost);
        }
        Some(host) if !is_host(host) => return Err(Malformed::BadHost),
        _ => {}
    }
    let expect = fields.expect.unwrap_or_default();
    if !expect.is_empty() && !has_token(expect, "100-continue") {
        return Err(Malformed::Expectation);
    }
    let mut clean = Vec::with_capacity(256);
    request.write(&mut clean);
    let mut field = |name: &str, value: Option<&[u8]>| {
        if let Some(value) = value {
            clean.extend_from_slice(name.as_bytes());
            clean.extend_from_slice(b": ");
            clean.extend_from_slice(value);
            clean.extend_from_slice(b"\r\n");
        }
    };
    field("host", fields.host);
    field("connection", fields.connection);
    field("expect", fields.expect);
    match body {
        BodyLength::Chunked => field("transfer-encoding", Some(b"chunked")),
        BodyLength::Bytes(0) => {}
        BodyLength::Bytes(length) => field("content-length", Some(length.to_string().as_bytes())),
    }
    clean.extend_from_slice(b"\r\n");
    Ok((clean, body))
}

/// The fields that make a difference.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    connection: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// The lines up to the empty one.
    fn parse(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, Malformed> {
        let mut fields = Fields::default();
        for line in lines.take_while(|line| !line.is_empty()) {
            // Also refuses a line that continues the one before it, which nobody sends any more.
            let (name, value) = cut(line, b':').ok_or(Malformed::BadRequest)?;
            if !is_token(name) {
                return Err(Malformed::BadRequest);
            }
            let value = value.trim_ascii();
            if value
                .iter()
                .any(|byte| byte.is_ascii_control() && *byte != b'\t')
            {
                return Err(Malformed::InvalidValue);
            }
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("host") {
                if fields.host.replace(value).is_some() {
                    return Err(Malformed::BadRequest);
                }
            } else if is("content-length") {
                let before = fields.content_length.replace(value);
                if before.is_some_and(|before| before != value) {
                    return Err(Malformed::BadRequest);
                }
            } else if is("transfer-encoding") {
                if fields.transfer_encoding.replace(value).is_some() {
                    return Err(Malformed::TransferEncoding);
                }
            } else if is("connection") {
                // Any of them closes it.
                let closes = |value: &&[u8]| has_token(value, "close");
                fields.connection = fields.connection.filter(closes).or(Some(value));
            } else if is("expect") {
                fields.expect = Some(value);
            }
        }
        Ok(fields)
    }

    fn body(&self, minor: u8) -> Result<BodyLength, Malformed> {
        // Go checks the length even where it does not count.
        let length = match self.content_length {
            None => 0,
            Some(digits) => std::str::from_utf8(digits)
                .ok()
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse::<u64>().ok())
                .filter(|length| i64::try_from(*length).is_ok())
                .ok_or(Malformed::BadRequest)?,
        };
        match self.transfer_encoding {
            Some(coding) if minor == 1 => match coding.eq_ignore_ascii_case(b"chunked") {
                true => Ok(BodyLength::Chunked),
                false => Err(Malformed::TransferEncoding),
            },
            _ => Ok(BodyLength::Bytes(length)),
        }
    }
}

/// Whether a list, separated by commas, has this word.
fn has_token(list: &[u8], token: &str) -> bool {
    let mut words = list.split(|byte| *byte == b',');
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn is_host(host: &[u8]) -> bool {
    let is_host_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(byte);
    host.iter().all(is_host_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Progress {
        HeadReader::default().look(head.as_bytes())
    }

    #[track_caller]
    fn clean(head: &str) -> (String, BodyLength) {
        match read(head) {
            Progress::Head(found) => {
                assert_eq!(found.length, head.len(), "{head:?}");
                (String::from_utf8(found.clean).unwrap(), found.body)
            }
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[test]
    fn only_what_matters_is_passed_on() {
        let many = "X-Many: y\r\n".repeat(500);
        let head = format!(
            "GET /lookup?topic=a HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n{many}\
             Connection: close\r\nExpect: 100-continue\r\ncontent-LENGTH: 3\r\n\r\n"
        );
        let expected = "GET /lookup?topic=a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                        expect: 100-continue\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(clean(&head), (expected.into(), BodyLength::Bytes(3)));
        let (chunked, body) = clean(
            "POST /x HTTP/1.1\r\nHost:\r\nContent-Length: 3\r\nTransfer-Encoding: Chunked\r\n\r\n",
        );
        assert_eq!(body, BodyLength::Chunked);
        assert!(!chunked.contains("length"), "{chunked}");
    }

    #[test]
    fn targets_are_data() {
        for (target, expected) in [
            ("/lookup?topic=a#ephemeral", "/lookup?topic=a%23ephemeral"),
            ("/ping#", "/ping%23"),
            (
                "/lookup?topic=%zz&x={\"é\"}",
                "/lookup?topic=%zz&x=%7B%22%C3%A9%22%7D",
            ),
            ("http://x/ping", "http://x/ping"),
            ("*", "*"),
        ] {
            let (clean, _) = clean(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!(
                clean.starts_with(&format!("GET {expected} HTTP/1.1\r\n")),
                "{clean}"
            );
        }
    }

    #[test]
    fn other_forms() {
        assert_eq!(
            clean("GET /ping HTTP/1.0\n\n"),
            ("GET /ping HTTP/1.0\r\n\r\n".into(), BodyLength::Bytes(0))
        );
        let (head, _) = clean("GET /ping HTTP/1.9\r\nHost: [::1]:4161\r\n\r\n");
        assert!(head.starts_with("GET /ping HTTP/1.1\r\n"), "{head}");
    }

    #[test]
    fn any_of_several_connection_fields_closes_it() {
        for (fields, expected) in [
            ("close", "close"),
            ("close|keep-alive", "close"),
            ("keep-alive|Close, x", "Close, x"),
            ("x|keep-alive", "keep-alive"),
        ] {
            let fields: String = fields
                .split('|')
                .map(|value| format!("Connection: {value}\r\n"))
                .collect();
            let (clean, _) = clean(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
            assert!(
                clean.contains(&format!("connection: {expected}\r\n")),
                "{clean}"
            );
        }
    }

    #[test]
    fn what_go_refuses() {
        let host = "Host: x\r\n\r\n";
        for (head, expected) in [
            ("\r\n".to_string(), Malformed::BadRequest),
            ("nonsense\r\n".into(), Malformed::BadRequest),
            ("  V1PING\n".into(), Malformed::BadRequest),
            (format!("GET /ping\r\n{host}"), Malformed::BadRequest),
            ("GET /pi ng HTTP/1.1\r\n".into(), Malformed::BadRequest),
            ("GET  /ping HTTP/1.1\r\n".into(), Malformed::BadRequest),
            ("GET ping HTTP/1.1\r\n".into(), Malformed::BadRequest),
            ("GET /ping%zz HTTP/1.1\r\n".into(), Malformed::BadRequest),
            ("GET /\u{7f} HTTP/1.1\r\n".into(), Malformed::BadRequest),
            ("G@T / HTTP/1.1\r\n".into(), Malformed::BadRequest),
            ("GET / HTTP/1.10\r\n".into(), Malformed::BadRequest),
            ("GET /ping HTTP/2.0\r\n".into(), Malformed::Version),
            ("GET / HTTP/1.1\r\n\r\n".into(), Malformed::MissingHost),
            (
                "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(),
                Malformed::BadHost,
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: x\r\n{host}"),
                Malformed::BadRequest,
            ),
            (
                format!("GET / HTTP/1.1\r\nbad header\r\n{host}"),
                Malformed::BadRequest,
            ),
            (
                format!("GET / HTTP/1.1\r\n: x\r\n{host}"),
                Malformed::BadRequest,
            ),
            (
                format!("GET / HTTP/1.1\r\nX: \u{1}\r\n{host}"),
                Malformed::InvalidValue,
            ),
            (
                format!("GET / HTTP/1.1\r\nContent-Length: x\r\n{host}"),
                Malformed::BadRequest,
            ),
            (
                format!("GET / HTTP/1.1\r\nContent-Length: -1\r\n{host}"),
                Malformed::BadRequest,
            ),
            (
                format!("GET / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n{host}"),
                Malformed::BadRequest,
            ),
            (
                format!("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n{host}"),
                Malformed::BadRequest,
            ),
            (
                format!("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n{host}"),
                Malformed::TransferEncoding,
            ),
            (
                format!("GET / HTTP/1.1\r\nExpect: miracles\r\n{host}"),
                Malformed::Expectation,
            ),
            (
                format!(
                    "GET / HTTP/1.1\r\nX: {}\r\n{host}",
                    "x".repeat(LONGEST_HEAD)
                ),
                Malformed::TooLarge,
            ),
        ] {
            assert_eq!(read(&head), Progress::Malformed(expected), "{head:?}");
        }
    }

    #[test]
    fn bytes_may_arrive_one_by_one_and_more_may_follow() {
        let head = "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n";
        let bytes = format!("{head}GET /next HTTP/1.1\r\n");
        let mut reader = HeadReader::default();
        for length in 1..head.len() {
            assert_eq!(
                reader.look(&bytes.as_bytes()[..length]),
                Progress::Incomplete
            );
        }
        let Progress::Head(found) = reader.look(bytes.as_bytes()) else {
            panic!("the head is complete");
        };
        assert_eq!(found.length, head.len());
        let endless = "x".repeat(LONGEST_HEAD + 1);
        assert_eq!(read(&endless), Progress::Malformed(Malformed::TooLarge));
    }

    #[test]
    fn an_error_is_told_in_plain_text() {
        assert_eq!(
            Malformed::MissingHost.answer(),
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Connection: close\r\n\r\n400 Bad Request: missing required Host header"
        );
    }
}
