//! Makes hyper refuse a request whose target has a `#`.
//!
//! A target has no fragment (RFC 9112, 3.2). hyper cuts one off without a word, Go takes it as data:
//! `POST /topic/delete?topic=orders#ephemeral` would delete `orders` here, and `orders#ephemeral`
//! at nsqlookupd. Rather neither than the wrong one.

/// Not allowed in a target.
const REFUSED: u8 = 1;

/// Follows the lines that a client sends, whatever is in them. In a body, a line that looks like
/// a request's may lose its `#`; no endpoint reads such bodies.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) enum Fragments {
    /// In what may be a method.
    #[default]
    Method,
    /// Before a target.
    Space,
    /// In a target.
    Target,
    /// In the rest of a line.
    Rest,
}

impl Fragments {
    /// Makes targets with a `#` invalid in what was received next.
    pub(super) fn refuse(&mut self, received: &mut [u8]) {
        // Nearly always: whole lines, and no `#` in them.
        if *self == Fragments::Method && received.ends_with(b"\n") && !received.contains(&b'#') {
            return;
        }
        for byte in received {
            *self = match (*self, *byte) {
                (_, b'\n') => Fragments::Method,
                (Fragments::Method, b'A'..=b'Z' | b'\r') => Fragments::Method,
                (Fragments::Method, b' ') => Fragments::Space,
                (Fragments::Space, b'/' | b'h' | b'H') => Fragments::Target,
                (Fragments::Target, b' ') => Fragments::Rest,
                (Fragments::Target, b'#') => {
                    *byte = REFUSED;
                    Fragments::Rest
                }
                (Fragments::Target, _) => Fragments::Target,
                _ => Fragments::Rest,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hyper gets if this arrives in pieces of this length.
    fn passed(sent: &str, length: usize) -> String {
        let mut fragments = Fragments::default();
        let mut bytes = sent.as_bytes().to_vec();
        for piece in bytes.chunks_mut(length) {
            fragments.refuse(piece);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_target_with_a_fragment_is_spoilt_however_it_arrives() {
        let head = "Host: a#b\r\nReferer: http://c/#d\r\n\r\n";
        let first = "GET /lookup?topic=a HTTP/1.1\r\n";
        for target in ["/topic/delete?topic=a#b", "http://h/x?topic=a#b#c"] {
            let sent = format!("{first}{head}\r\nPOST {target} HTTP/1.1\r\n{head}");
            let spoilt = target.replacen('#', "\u{1}", 1);
            let expected = format!("{first}{head}\r\nPOST {spoilt} HTTP/1.1\r\n{head}");
            for length in 1..=sent.len() {
                assert_eq!(passed(&sent, length), expected, "{length}");
            }
        }
    }

    #[test]
    fn everything_else_is_passed() {
        for sent in [
            "PUT /config/log_level HTTP/1.1\r\nContent-Length: 7\r\n\r\n#debug\n",
            "GET /lookup?topic=a%23ephemeral HTTP/1.1\r\nX: GET /#\r\n\r\n",
            "#",
            "GET #",
        ] {
            for length in 1..=sent.len() {
                assert_eq!(passed(sent, length), sent, "{length}");
            }
        }
    }
}
