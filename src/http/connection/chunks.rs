//! Where a chunked body ends. PURE.

/// A size of more digits than that is nonsense.
const LONGEST_SIZE: u8 = 16;

/// Follows a chunked body as its bytes arrive.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    at: At,
}

#[derive(Debug, Default)]
enum At {
    /// In the digits of a chunk's size.
    #[default]
    Start,
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the digits: extensions, up to the end of the line.
    Extension {
        size: u64,
    },
    /// So many bytes of data, with the end of their line.
    Data {
        left: u64,
    },
    /// In the lines behind the last chunk.
    Trailer {
        line_is_empty: bool,
    },
    End,
    /// It is no chunked body: whoever reads it will notice.
    Nonsense,
}

impl Chunks {
    /// How many of these bytes belong to the body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            if let At::Data { left } = &mut self.at {
                let some = (bytes.len() - taken).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= some as u64;
                taken += some;
                if *left == 0 {
                    self.at = At::Start;
                }
                continue;
            }
            match self.at {
                At::End => return taken,
                At::Nonsense => return bytes.len(),
                _ => self.step(bytes[taken]),
            }
            taken += 1;
        }
        taken
    }

    /// Whether the body is over.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.at, At::End)
    }

    fn step(&mut self, byte: u8) {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        self.at = match (&self.at, digit, byte) {
            (At::Start, Some(digit), _) => At::Size {
                size: digit,
                digits: 1,
            },
            (At::Size { size, digits }, Some(digit), _) if *digits < LONGEST_SIZE => At::Size {
                size: size * 16 + digit,
                digits: digits + 1,
            },
            (At::Size { size, .. } | At::Extension { size }, _, b'\n') => match size {
                0 => At::Trailer {
                    line_is_empty: true,
                },
                size => At::Data {
                    left: size.saturating_add(2),
                },
            },
            (At::Size { size, .. }, None, b'\r' | b';' | b' ' | b'\t')
            | (At::Extension { size }, _, _) => At::Extension { size: *size },
            (At::Trailer { line_is_empty }, _, b'\n') => match line_is_empty {
                true => At::End,
                false => At::Trailer {
                    line_is_empty: true,
                },
            },
            (At::Trailer { line_is_empty }, _, b'\r') => At::Trailer {
                line_is_empty: *line_is_empty,
            },
            (At::Trailer { .. }, _, _) => At::Trailer {
                line_is_empty: false,
            },
            _ => At::Nonsense,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_however_the_bytes_arrive() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "3;x=1\r\n0\r\n\r\n0\r\nTrailer: x\r\n\r\n",
            "A\r\n0123456789\r\n000\r\n\r\n",
        ] {
            let bytes = format!("{body}GET /next");
            let mut whole = Chunks::default();
            assert_eq!(whole.take(bytes.as_bytes()), body.len(), "{body:?}");
            assert!(whole.is_over(), "{body:?}");
            let mut slow = Chunks::default();
            for byte in body.as_bytes() {
                assert!(!slow.is_over(), "{body:?}");
                assert_eq!(slow.take(&[*byte]), 1, "{body:?}");
            }
            assert!(slow.is_over(), "{body:?}");
        }
    }

    #[test]
    fn nonsense_has_no_end() {
        for body in ["x\r\n", "\r\n", "12345678901234567\r\n"] {
            let mut chunks = Chunks::default();
            assert_eq!(chunks.take(body.as_bytes()), body.len(), "{body:?}");
            assert!(!chunks.is_over(), "{body:?}");
        }
    }
}
