//! Reads the arguments of a request by the rules of Go's `url.ParseQuery`.

use std::borrow::Cow;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::http::error::HttpError;
use crate::nsqd::protocol::names::is_valid_name;

/// The query of a request, whose escapes are valid. Of repeated arguments the first counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments(String);

impl Arguments {
    /// # Errors
    /// [`HttpError::InvalidRequest`] on a bad percent escape or a `;` anywhere.
    pub(super) fn parse(query: &str) -> Result<Arguments, HttpError> {
        if query.contains(';') || !has_good_escapes(query) {
            return Err(HttpError::InvalidRequest);
        }
        Ok(Arguments(query.into()))
    }

    /// The argument's value; `None` if it is absent or not UTF-8.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.find(name)? {
            Cow::Borrowed(value) => std::str::from_utf8(value).ok().map(Cow::Borrowed),
            Cow::Owned(value) => String::from_utf8(value).ok().map(Cow::Owned),
        }
    }

    /// # Errors
    /// [`HttpError::MissingArg`].
    pub(super) fn require(&self, name: &str, upper: &'static str) -> Result<String, HttpError> {
        let value = self.find(name).ok_or(HttpError::MissingArg(upper))?;
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    /// # Errors
    /// [`HttpError::MissingArg`], [`HttpError::InvalidArg`].
    pub(super) fn require_name(
        &self,
        name: &str,
        upper: &'static str,
    ) -> Result<String, HttpError> {
        let value = self.require(name, upper)?;
        if !is_valid_name(value.as_bytes()) {
            return Err(HttpError::InvalidArg(upper));
        }
        Ok(value)
    }

    fn find(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let found = pairs.find(|(key, _)| *unescape(key, b' ') == *name.as_bytes());
        found.map(|(_, value)| unescape(value, b' '))
    }
}

impl<S: Sync> FromRequestParts<S> for Arguments {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        Arguments::parse(parts.uri.query().unwrap_or_default())
    }
}

/// A path without its escapes, by the rules of Go's `url.PathUnescape`.
///
/// # Errors
/// [`HttpError::InvalidRequest`] on a bad percent escape.
pub(super) fn unescape_path(path: &str) -> Result<Cow<'_, str>, HttpError> {
    if !has_good_escapes(path) {
        return Err(HttpError::InvalidRequest);
    }
    Ok(match unescape(path, b'+') {
        Cow::Borrowed(_) => Cow::Borrowed(path),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

fn has_good_escapes(text: &str) -> bool {
    let mut escapes = text.split('%').skip(1);
    escapes.all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Replaces the escapes of a text whose escapes are good, and `+`, which is a space in a query.
fn unescape(text: &str, plus: u8) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Cow::Owned(bytes),
            [b'%', high, low, rest @ ..] => {
                bytes.push(digit(*high) * 16 + digit(*low));
                rest
            }
            [b'+', rest @ ..] => {
                bytes.push(plus);
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let query = "topic=%6frders&topic=second&x=a+b&&empty=&bare&a=b=c&%79=%2B%c3%a9&bad=%FF";
        let arguments = Arguments::parse(query).unwrap();
        for (name, value) in [
            ("topic", Some("orders")),
            ("x", Some("a b")),
            ("empty", Some("")),
            ("bare", Some("")),
            ("a", Some("b=c")),
            ("y", Some("+é")),
            ("bad", None),
            ("Topic", None),
        ] {
            assert_eq!(arguments.get(name).as_deref(), value, "{name}");
        }
        assert_eq!(
            arguments.require("none", "NONE"),
            Err(HttpError::MissingArg("NONE"))
        );
        assert_eq!(arguments.require("bad", "BAD"), Ok("\u{fffd}".into()));
        assert_eq!(
            arguments.require_name("empty", "E"),
            Err(HttpError::InvalidArg("E"))
        );
        assert_eq!(arguments.require_name("topic", "T"), Ok("orders".into()));
    }

    #[test]
    fn bad_queries() {
        for query in [
            "topic=%",
            "topic=%z",
            "topic=%zz",
            "topic=%4&x=1",
            "topic=%%41",
            "a=b;c=d",
            "%=x",
            "topic=a&x=%4",
            "topic=%é",
        ] {
            assert_eq!(
                Arguments::parse(query),
                Err(HttpError::InvalidRequest),
                "{query}"
            );
        }
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/ping", Ok("/ping")),
            ("/p%69ng", Ok("/ping")),
            ("/a+b%2F%2b", Ok("/a+b/+")),
            ("/%", Err(HttpError::InvalidRequest)),
            ("/%zz", Err(HttpError::InvalidRequest)),
        ] {
            let unescaped = unescape_path(path);
            assert_eq!(unescaped.as_deref(), expected.as_ref().copied(), "{path}");
        }
    }
}
