//! Takes out of Rust source what is not code: comments, literals, tests.

/// The source without comments, and with empty texts and characters.
pub fn without_texts(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            raw_text(rest)
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character(rest)
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// How long the raw text at the beginning is; an `r` that begins none is one character.
fn raw_text(source: &str) -> usize {
    let hashes = source[1..].len() - source[1..].trim_start_matches('#').len();
    if !source[1 + hashes..].starts_with('"') {
        return 1;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = hashes + 2;
    let found = source[begin..].find(&end);
    found.map_or(source.len(), |at| begin + at + end.len())
}

fn quoted(source: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in source.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    source.len()
}

/// `'x'` and `'\n'` are characters; `'a` is a lifetime, of which the quote is left out.
fn character(source: &str) -> usize {
    let mut behind = source.chars().skip(1);
    match (behind.next(), behind.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(source, '\''),
        _ => 1,
    }
}

/// The code without what is behind `#[cfg(test)]`.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        let end = rest.find([';', '{']).unwrap_or(rest.len());
        rest = match rest[end..].starts_with('{') {
            true => &rest[end + block(&rest[end..])..],
            false => &rest[rest.len().min(end + 1)..],
        };
    }
    kept + rest
}

/// How long the block in braces at the beginning is.
fn block(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[test]
fn only_code_is_left() {
    for (source, code) in [
        ("a // crate::b\nc", "a \nc"),
        ("a /* b */ c", "a  c"),
        (r#"f("crate::\"b\" //", x)"#, "f(, x)"),
        ("f(r#\"a \"b\" //\"#, r)", "f(, r)"),
        ("f('\"', '\\'', b'x') + 'a: 'b", "f(, , b) + a: b"),
    ] {
        assert_eq!(without_texts(source), code, "{source}");
    }
    let code = "a; #[cfg(test)] mod tests { fn b() { c } } d #[cfg(test)] mod tests; e";
    assert_eq!(without_tests(code), "a;  d  e");
}
