//! JSON as a client sees it, and patterns of it. PURE.
//!
//! Compact JSON is all that this parser knows, and it keeps the order of keys: an answer with white
//! space, or with its keys in another order, does not match. The order of a list does not count,
//! since upstream's is that of a Go map.

use crate::text::Remotes;

/// A value, or a pattern of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    String(String),
    /// A number, `true`, `false` or `null`, as it is written.
    Plain(String),
    List(Vec<Json>),
    Object(Object),
    /// `<any>`: any value.
    Any,
    /// `<text>`: a string that is not empty.
    Text,
    /// `<number>`: a whole number above 0.
    Number,
    /// `<negative>`: a whole number below 0.
    Negative,
    /// `<remote NAME>`: the address from which this connection comes.
    Remote(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    fields: Vec<(String, Json)>,
    /// `...`: there may be more keys.
    open: bool,
}

impl Json {
    /// What a server sent.
    pub fn received(text: &str) -> Result<Json, String> {
        Parser::whole(text, false)
    }

    /// What a script expects.
    pub fn pattern(text: &str) -> Result<Json, String> {
        Parser::whole(text, true)
    }

    /// Whether what was received fits this pattern.
    pub fn matches(&self, got: &Json, remotes: &Remotes) -> bool {
        match (self, got) {
            (Json::Any, _) => true,
            (Json::Text, Json::String(text)) => !text.is_empty(),
            (Json::Number, Json::Plain(text)) => text.parse::<u64>().is_ok_and(|n| n > 0),
            (Json::Negative, Json::Plain(text)) => text.parse::<i64>().is_ok_and(|n| n < 0),
            (Json::Remote(who), Json::String(text)) => remotes.get(who) == Some(text),
            (Json::List(wanted), Json::List(got)) => same_in_any_order(wanted, got, remotes),
            (Json::Object(wanted), Json::Object(got)) => wanted.matches(got, remotes),
            _ => self == got,
        }
    }
}

fn same_in_any_order(wanted: &[Json], got: &[Json], remotes: &Remotes) -> bool {
    let Some((first, others)) = wanted.split_first() else {
        return got.is_empty();
    };
    (0..got.len()).any(|at| {
        first.matches(&got[at], remotes)
            && same_in_any_order(others, &[&got[..at], &got[at + 1..]].concat(), remotes)
    })
}

impl Object {
    fn matches(&self, got: &Object, remotes: &Remotes) -> bool {
        let (wanted, got) = (self.paired(), got.paired());
        let mut rest = got.iter();
        let mut found = |key: &str| match self.open {
            true => rest.find(|(name, _)| name == key),
            false => rest.next().filter(|(name, _)| name == key),
        };
        let all = wanted
            .iter()
            .all(|(key, value)| found(key).is_some_and(|(_, got)| value.matches(got, remotes)));
        all && (self.open || rest.next().is_none())
    }

    /// The parallel lists `tombstones` and `topics` of a node, as one list of pairs: their common
    /// order does not count, what stands beside what does.
    fn paired(&self) -> Vec<(String, Json)> {
        let list = |key: &str| {
            self.fields.iter().find_map(|(name, value)| match value {
                Json::List(list) if name == key => Some(list),
                _ => None,
            })
        };
        let mut fields = self.fields.clone();
        if let (Some(left), Some(right)) = (list("tombstones"), list("topics"))
            && left.len() == right.len()
        {
            let pairs = left.iter().zip(right);
            let pairs = pairs.map(|(left, right)| Json::List(vec![left.clone(), right.clone()]));
            let pairs = Json::List(pairs.collect());
            for (_, value) in fields
                .iter_mut()
                .filter(|(name, _)| name == "tombstones" || name == "topics")
            {
                *value = pairs.clone();
            }
        }
        fields
    }
}

struct Parser<'a> {
    rest: &'a str,
    pattern: bool,
}

impl<'a> Parser<'a> {
    fn whole(text: &'a str, pattern: bool) -> Result<Json, String> {
        let mut parser = Parser {
            rest: text,
            pattern,
        };
        let value = parser.value()?;
        match parser.rest {
            "" => Ok(value),
            rest => Err(format!("after the JSON: {rest:?}")),
        }
    }

    fn value(&mut self) -> Result<Json, String> {
        if self.takes("{") {
            self.object().map(Json::Object)
        } else if self.takes("[") {
            self.list().map(Json::List)
        } else if self.rest.starts_with('"') {
            self.string().map(Json::String)
        } else if self.pattern && self.takes("<") {
            self.placeholder()
        } else {
            self.plain()
        }
    }

    fn object(&mut self) -> Result<Object, String> {
        let (mut fields, mut open) = (Vec::new(), false);
        while !self.takes("}") {
            if !fields.is_empty() {
                self.expect(",")?;
            }
            if self.pattern && self.takes("...") {
                open = true;
                self.expect("}")?;
                break;
            }
            let key = self.string()?;
            self.expect(":")?;
            fields.push((key, self.value()?));
        }
        Ok(Object { fields, open })
    }

    fn list(&mut self) -> Result<Vec<Json>, String> {
        let mut values = Vec::new();
        while !self.takes("]") {
            if !values.is_empty() {
                self.expect(",")?;
            }
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn string(&mut self) -> Result<String, String> {
        let mut escaped = false;
        let end = self.rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let (end, _) = end.ok_or_else(|| format!("a string is expected: {:?}", self.rest))?;
        let (token, rest) = self.rest.split_at(end + 1);
        self.rest = rest;
        serde_json::from_str(token).map_err(|error| format!("{error}: {token}"))
    }

    fn placeholder(&mut self) -> Result<Json, String> {
        let (name, rest) = self.rest.split_once('>').ok_or("a < without its >")?;
        self.rest = rest;
        match name.split_once(' ') {
            None if name == "any" => Ok(Json::Any),
            None if name == "text" => Ok(Json::Text),
            None if name == "number" => Ok(Json::Number),
            None if name == "negative" => Ok(Json::Negative),
            Some(("remote", who)) => Ok(Json::Remote(who.into())),
            _ => Err(format!("no placeholder: <{name}>")),
        }
    }

    fn plain(&mut self) -> Result<Json, String> {
        let end = self.rest.find([',', ']', '}']).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        let plain = match token {
            "true" | "false" | "null" => true,
            _ => token.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']),
        };
        if !plain || token.contains(char::is_whitespace) {
            return Err(format!("no value: {:?}", self.rest));
        }
        self.rest = rest;
        Ok(Json::Plain(token.into()))
    }

    fn takes(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        match self.takes(token) {
            true => Ok(()),
            false => Err(format!("{token} is expected before {:?}", self.rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fits(pattern: &str, got: &str) -> bool {
        let remotes = Remotes::from([("c1".into(), "127.0.0.1:7".into())]);
        let got = Json::received(got).unwrap();
        Json::pattern(pattern).unwrap().matches(&got, &remotes)
    }

    #[test]
    fn what_fits_and_what_does_not() {
        for (pattern, got, expected) in [
            (r#"{"a":1,"b":"x"}"#, r#"{"a":1,"b":"x"}"#, true),
            (r#"{"a":1,"b":"x"}"#, r#"{"b":"x","a":1}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            (r#"{"a":1,"b":2}"#, r#"{"a":1}"#, false),
            (r#"{"a":1,...}"#, r#"{"0":0,"a":1,"b":2}"#, true),
            (r#"{"a":1,...}"#, r#"{"a":2}"#, false),
            (r"[1,2,<any>]", "[7,2,1]", true),
            ("[1,1]", "[1,2]", false),
            ("[1]", "[1,1]", false),
            ("[]", "null", false),
            ("1", "1.0", false),
            (r#""é""#, r#""\u00e9""#, true),
            ("[<number>,<negative>]", "[-1,1]", true),
            ("<number>", "0", false),
            ("<number>", r#""1""#, false),
            ("<text>", r#""""#, false),
            ("<remote c1>", r#""127.0.0.1:7""#, true),
            ("<remote c1>", r#""127.0.0.1:8""#, false),
        ] {
            assert_eq!(fits(pattern, got), expected, "{pattern} {got}");
        }
    }

    #[test]
    fn tombstones_belong_to_their_topics() {
        let node = r#"{"tombstones":[true,false],"topics":["a","b"]}"#;
        assert!(fits(
            node,
            r#"{"tombstones":[false,true],"topics":["b","a"]}"#
        ));
        assert!(!fits(
            node,
            r#"{"tombstones":[false,true],"topics":["a","b"]}"#
        ));
        assert!(!fits(node, r#"{"tombstones":[true],"topics":["a","b"]}"#));
    }

    #[test]
    fn what_is_not_compact_json() {
        for text in [
            "", "{", "[1", "[1,]", "{1:2}", "\"x", "[1, 2]", "{}\n", " {}", "<any>", "{...}",
            "nul", "x",
        ] {
            assert!(Json::received(text).is_err(), "{text}");
        }
        assert!(Json::pattern("<what>").is_err());
    }
}
