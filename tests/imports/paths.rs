//! Finds the paths in code that lead into other modules of its crate.

use std::collections::BTreeSet;

/// The modules that the code of a module leads to.
pub fn imported(code: &str, module: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let here: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut found = BTreeSet::new();
    for path in paths(&tokens(code)) {
        if let Some(to) = resolve(&path, &here, known) {
            found.insert(to);
        }
    }
    found.remove(module);
    found
}

/// Words, `::`, and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Every path in the code: `a::b::{c, d::e}` is two of them.
fn paths<'a>(tokens: &[&'a str]) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_start = is_name(tokens[at]) && (at == 0 || tokens[at - 1] != "::");
        // `pub(in crate::a)` imports nothing, nor does the module that `mod a;` declares.
        let is_other = at > 0 && ["in", "mod"].contains(&tokens[at - 1]);
        let mut end = at + 1;
        if is_start {
            let mut tree = Vec::new();
            end = read_tree(tokens, at, &[], &mut tree);
            if !is_other {
                found.extend(tree);
            }
        }
        at = end;
    }
    found
}

/// Reads a path, or a tree of them, from here on; where it ends.
fn read_tree<'a>(
    tokens: &[&'a str],
    mut at: usize,
    before: &[&'a str],
    found: &mut Vec<Vec<&'a str>>,
) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        if *token == "{" && (!path.is_empty() && tokens[at - 1] == "::") {
            at += 1;
            while tokens.get(at).is_some_and(|token| *token != "}") {
                at = match tokens[at] {
                    "," => at + 1,
                    _ => read_tree(tokens, at, &path, found),
                };
            }
            return at + 1;
        }
        if !is_name(token) && *token != "*" {
            break;
        }
        path.push(token);
        at += 1;
        if tokens.get(at) != Some(&"::") {
            if tokens.get(at) == Some(&"as") {
                at += 2;
            }
            break;
        }
        at += 1;
    }
    if path.len() > before.len() {
        found.push(path);
    } else {
        at += 1;
    }
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The known module that a path leads to, or into. One word alone is a name, or says who sees it.
fn resolve(path: &[&str], here: &[&str], known: &BTreeSet<String>) -> Option<String> {
    if path.len() == 1 {
        return None;
    }
    let mut to = here.to_vec();
    let mut rest = path;
    match path.first()? {
        &"crate" => {
            to.clear();
            rest = &path[1..];
        }
        &"self" => rest = &path[1..],
        &"super" => {
            while rest.first() == Some(&"super") {
                to.pop()?;
                rest = &rest[1..];
            }
        }
        child => {
            let child = [here, &[child]].concat().join("::");
            if !known.contains(&child) {
                return None;
            }
        }
    }
    for part in rest {
        to.push(part);
        if !known.contains(&to.join("::")) {
            to.pop();
            break;
        }
    }
    Some(to.join("::"))
}

#[test]
fn what_a_module_imports() {
    let known = ["", "a", "a::b", "a::b::c", "d", "d::e"];
    let known: BTreeSet<String> = known.map(String::from).into();
    for (code, expected) in [
        ("use crate::d::e::X;", &["d::e"][..]),
        ("use crate::d::{self, e::{X, Y}, Z};", &["d", "d::e"]),
        ("use crate::{a, d};", &["a", "d"]),
        ("use super::X as Y; crate::run()", &["", "a"]),
        ("super::super::d::f(self.x)", &["d"]),
        ("mod c; pub use c::X;", &["a::b::c"]),
        ("mod c; fn f(c: u8) -> u8 { c }", &[]),
        ("pub(in crate::d) fn f() -> std::fmt::Result {}", &[]),
        ("pub(super) fn f(self, x: pub(crate)) {}", &[]),
        ("use std::d::X; let x: Self = Self::new();", &[]),
        ("let x = a::<u8>::b; if x { crate::d::f::<u8>() }", &["d"]),
    ] {
        let found: Vec<String> = imported(code, "a::b", &known).into_iter().collect();
        assert_eq!(found, expected, "{code}");
    }
}
