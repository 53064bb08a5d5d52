//! The arguments of a request, by the rules of Go's `url.ParseQuery`. PURE.

use crate::http::error::HttpError;
use crate::nsqd::protocol::names::is_valid_name;

/// The arguments, in order. Of repeated ones the first counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    /// # Errors
    /// [`HttpError::InvalidRequest`] on a bad percent escape or a `;` anywhere.
    pub(super) fn parse(query: &str) -> Result<Query, HttpError> {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                if pair.contains(';') {
                    return Err(HttpError::InvalidRequest);
                }
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((unescape(name)?, unescape(value)?))
            });
        Ok(Query(pairs.collect::<Result<_, _>>()?))
    }

    /// The argument's value; `None` if it is absent or no text.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name.as_bytes());
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// # Errors
    /// [`HttpError::MissingArg`].
    pub(super) fn require(&self, name: &str, upper: &'static str) -> Result<String, HttpError> {
        let value = self.0.iter().find(|(key, _)| key == name.as_bytes());
        let (_, value) = value.ok_or(HttpError::MissingArg(upper))?;
        Ok(String::from_utf8_lossy(value).into_owned())
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
}

/// A path as it is meant, by the rules of Go's `url.PathUnescape`.
///
/// # Errors
/// [`HttpError::InvalidRequest`] on a bad percent escape.
pub(super) fn unescape_path(path: &str) -> Result<String, HttpError> {
    let bytes = unescape(&path.replace('+', "%2B"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unescape(text: &str) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = rest
                    .get(..2)
                    .filter(|two| two.iter().all(u8::is_ascii_hexdigit));
                let digits = digits.and_then(|two| std::str::from_utf8(two).ok());
                let digits = digits.ok_or(HttpError::InvalidRequest)?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).map_err(|_| HttpError::InvalidRequest)?
            }
            byte => byte,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let query = Query::parse("topic=%6frders&topic=second&x=a+b&&empty=&bare&a=b=c").unwrap();
        for (name, value) in [
            ("topic", Some("orders")),
            ("x", Some("a b")),
            ("empty", Some("")),
            ("bare", Some("")),
            ("a", Some("b=c")),
            ("Topic", None),
        ] {
            assert_eq!(query.get(name), value, "{name}");
        }
        assert_eq!(
            query.require("none", "NONE"),
            Err(HttpError::MissingArg("NONE"))
        );
        assert_eq!(
            query.require_name("empty", "E"),
            Err(HttpError::InvalidArg("E"))
        );
        assert_eq!(query.require_name("topic", "T"), Ok("orders".into()));
    }

    #[test]
    fn what_cannot_be_read() {
        for query in [
            "topic=%",
            "topic=%z",
            "topic=%zz",
            "a=b;c=d",
            "%=x",
            "topic=a&x=%4",
        ] {
            assert_eq!(
                Query::parse(query),
                Err(HttpError::InvalidRequest),
                "{query}"
            );
        }
    }
}
