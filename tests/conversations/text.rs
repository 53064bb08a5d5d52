//! Bytes as a script writes them, and patterns of them. PURE.

use std::collections::BTreeMap;

/// The address that each connection has, as the server sees it, by the connection's name.
pub type Remotes = BTreeMap<String, String>;

/// Writes out every `<TEXT*COUNT>`.
pub fn expand(line: &str) -> String {
    let mut expanded = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('<') {
        let (before, tail) = rest.split_at(start);
        expanded.push_str(before);
        let repeat = tail[1..].split_once('>').and_then(|(inside, after)| {
            let (text, count) = inside.rsplit_once('*')?;
            let innermost = !text.contains('<');
            innermost.then_some((text.repeat(count.parse().ok()?), after))
        });
        rest = match repeat {
            Some((repeated, after)) => {
                expanded.push_str(&repeated);
                after
            }
            None => {
                expanded.push('<');
                &tail[1..]
            }
        };
    }
    expanded + rest
}

/// The bytes that are meant: `\n`, `\r`, `\t`, `\0`, `\\` and `\xff` are escapes.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        let mut length = 1;
        bytes.push(match tail.as_bytes().first() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                length = 3;
                let digits = tail.get(1..3).unwrap_or_default();
                u8::from_str_radix(digits, 16).map_err(|_| format!("no byte: \\x{digits}"))?
            }
            _ => return Err(format!("no escape: \\{tail}")),
        });
        rest = &tail[length..];
    }
    bytes.extend(rest.as_bytes());
    Ok(bytes)
}

/// Text with placeholders: `<any>`, `<number>`, `<remote NAME>`.
#[derive(Debug, Clone)]
pub struct Text(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Bytes(Vec<u8>),
    Any,
    Number,
    Remote(String),
}

impl Text {
    pub fn parse(text: &str) -> Result<Text, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once('<') {
            let (name, after) = tail.split_once('>').ok_or("a < without its >")?;
            pieces.push(Piece::Bytes(unescape(before)?));
            pieces.push(match name.split_once(' ') {
                None if name == "any" => Piece::Any,
                None if name == "number" => Piece::Number,
                Some(("remote", who)) => Piece::Remote(who.into()),
                _ => return Err(format!("no placeholder: <{name}>")),
            });
            rest = after;
        }
        pieces.push(Piece::Bytes(unescape(rest)?));
        Ok(Text(pieces))
    }

    pub fn matches(&self, got: &[u8], remotes: &Remotes) -> bool {
        matches(&self.0, got, remotes)
    }
}

fn matches(pieces: &[Piece], got: &[u8], remotes: &Remotes) -> bool {
    let Some((piece, others)) = pieces.split_first() else {
        return got.is_empty();
    };
    let go_on = |rest: &[u8]| matches(others, rest, remotes);
    let after = |literal: &[u8]| got.strip_prefix(literal).is_some_and(go_on);
    match piece {
        Piece::Bytes(literal) => after(literal),
        Piece::Remote(who) => remotes.get(who).is_some_and(|it| after(it.as_bytes())),
        Piece::Any => (0..=got.len()).any(|length| go_on(&got[length..])),
        Piece::Number => {
            let digits = got.iter().take_while(|byte| byte.is_ascii_digit()).count();
            digits > 0 && go_on(&got[digits..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_written_out() {
        for (line, expanded) in [
            ("REGISTER <x*3> <ab*2>", "REGISTER xxx abab"),
            ("<any> <&> a*b <remote c1>", "<any> <&> a*b <remote c1>"),
            ("< *2>|", "  |"),
            ("c1 < <x*2>", "c1 < xx"),
        ] {
            assert_eq!(expand(line), expanded);
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(
            unescape(r"a\n\r\t\0\\\xffé").unwrap(),
            b"a\n\r\t\0\\\xff\xc3\xa9"
        );
        for text in [r"\", r"\q", r"\x", r"\x1", r"\xzz"] {
            assert!(unescape(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns() {
        let remotes = Remotes::from([("c1".into(), "127.0.0.1:7".into())]);
        for (pattern, got, fits) in [
            ("OK", "OK", true),
            ("OK", "OK\n", false),
            ("v<number>.<any>!", "v12.3!!", true),
            ("v<number>.", "v.", false),
            ("<any>b", "abab", true),
            ("<remote c1>,", "127.0.0.1:7,", true),
            ("<remote c2>", "127.0.0.1:7", false),
        ] {
            let pattern = Text::parse(pattern).unwrap();
            assert_eq!(pattern.matches(got.as_bytes(), &remotes), fits, "{got}");
        }
        assert!(Text::parse("<what>").is_err());
        assert!(Text::parse("1 < 2").is_err());
    }
}
