//! Parses the body of an IDENTIFY as Go's JSON decoder does. PURE.

use std::borrow::Cow;

use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};

use crate::nsqd::protocol::error::ProtocolError;

/// The limit of all strings together, in bytes: they are replicated and stored with every attachment.
/// Unknown fields do not count.
pub(crate) const LONGEST_TEXTS: usize = 16 * 1024;

/// Parses an IDENTIFY body.
///
/// As upstream: unknown keys are ignored, keys match in any case, of duplicates the last counts,
/// `null` equals absent, and invalid UTF-8 or UTF-16 is replaced.
///
/// # Errors
/// [`ProtocolError::BodyNotJson`], also for values of the wrong type;
/// [`ProtocolError::BodyIncomplete`] if a required field is missing, empty or 0;
/// [`ProtocolError::BodySizeInvalid`] if the strings exceed the limit.
pub(crate) fn parse(body: &[u8]) -> Result<(ProducerId, PeerInfo), ProtocolError> {
    let text = String::from_utf8_lossy(body);
    let not_json = |_| ProtocolError::BodyNotJson;
    let body: Option<Fields> = serde_json::from_str(&whole_surrogates(&text)).map_err(not_json)?;
    let fields = body.unwrap_or_default();
    let complete = !fields.broadcast_address.is_empty()
        && fields.tcp_port != 0
        && fields.http_port != 0
        && !fields.version.is_empty();
    if !complete {
        return Err(ProtocolError::BodyIncomplete);
    }
    let texts = [
        &fields.broadcast_address,
        &fields.hostname,
        &fields.version,
        &fields.topology_zone,
        &fields.topology_region,
    ];
    if texts.into_iter().map(String::len).sum::<usize>() > LONGEST_TEXTS {
        return Err(ProtocolError::BodySizeInvalid);
    }
    let id = ProducerId {
        broadcast_address: fields.broadcast_address,
        tcp_port: fields.tcp_port,
    };
    let info = PeerInfo {
        hostname: fields.hostname,
        http_port: fields.http_port,
        version: fields.version,
        topology_zone: fields.topology_zone,
        topology_region: fields.topology_region,
    };
    Ok((id, info))
}

#[derive(Default)]
struct Fields {
    broadcast_address: String,
    tcp_port: i64,
    http_port: i64,
    version: String,
    hostname: String,
    topology_zone: String,
    topology_region: String,
}

/// Reads an object key by key, in the order sent: serde's derived code would refuse duplicates, and
/// keys in another case.
impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> serde::de::Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        // Type-checked, although the socket's address replaces it.
        let mut remote_address = String::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.to_lowercase().as_str() {
                "broadcast_address" => text(&mut map, &mut fields.broadcast_address)?,
                "hostname" => text(&mut map, &mut fields.hostname)?,
                "version" => text(&mut map, &mut fields.version)?,
                "topology_zone" => text(&mut map, &mut fields.topology_zone)?,
                "topology_region" => text(&mut map, &mut fields.topology_region)?,
                "remote_address" => text(&mut map, &mut remote_address)?,
                "tcp_port" => integer(&mut map, &mut fields.tcp_port)?,
                "http_port" => integer(&mut map, &mut fields.http_port)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

fn text<'de, A: MapAccess<'de>>(map: &mut A, field: &mut String) -> Result<(), A::Error> {
    if let Some(text) = map.next_value()? {
        *field = text;
    }
    Ok(())
}

fn integer<'de, A: MapAccess<'de>>(map: &mut A, field: &mut i64) -> Result<(), A::Error> {
    if let Some(number) = map.next_value()? {
        *field = number;
    }
    Ok(())
}

/// JSON in which every half of a surrogate pair has become U+FFFD.
fn whole_surrogates(json: &str) -> Cow<'_, str> {
    let mut whole = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let next = json.get(at + 6..).and_then(escaped);
        let length = match (escaped(&json[at..]), next) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                whole.push_str(&json[copied..at]);
                whole.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            // The backslash and the character behind it.
            _ => 1 + json[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
        at += length;
    }
    if copied == 0 {
        return json.into();
    }
    whole.push_str(&json[copied..]);
    whole.into()
}

/// The code unit that a text begins with, written as `\u` and four digits.
fn escaped(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let all_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all_digits.then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str =
        r#"{"broadcast_address":"h1","tcp_port":4150,"http_port":4151,"version":"1.3.0"}"#;

    #[test]
    fn reads_what_nsqd_sends() {
        let body = r#"{"broadcast_address":"h1","hostname":"box","http_port":-1,"tcp_port":4150,
            "version":"1.3.0","topology_zone":"z","topology_region":"r","unknown":[{}]}"#;
        let (id, info) = parse(body.as_bytes()).unwrap();
        assert_eq!((id.broadcast_address.as_str(), id.tcp_port), ("h1", 4150));
        assert_eq!((info.hostname.as_str(), info.http_port), ("box", -1));
        assert_eq!(
            (info.topology_zone.as_str(), info.topology_region.as_str()),
            ("z", "r")
        );
    }

    #[test]
    fn has_gos_quirks() {
        let same = [
            r#"{"broadcast_address":"x","BROADCAST_ADDRESS":"h1","tcp_port":4150,"http_port":4151,"version":"1.3.0"}"#,
            r#"{"tcp_port":7,"broadcast_address":"h1","tcp_port":null,"tcp_port":4150,"http_port":4151,"version":"1.3.0"}"#,
        ];
        for body in same {
            assert_eq!(parse(body.as_bytes()), parse(WHOLE.as_bytes()), "{body}");
        }
        let broken =
            b"{\"broadcast_address\":\"h\xff\",\"tcp_port\":1,\"http_port\":1,\"version\":\"v\"}";
        assert_eq!(parse(broken).unwrap().0.broadcast_address, "h\u{fffd}");
        let half = WHOLE.replace("h1", "\\ud800h\\udc00\\ud83d\\ude00");
        let (id, _) = parse(half.as_bytes()).unwrap();
        assert_eq!(id.broadcast_address, "\u{fffd}h\u{fffd}\u{1f600}");
        let backslash = WHOLE.replace("h1", "\\\\ud800");
        let (id, _) = parse(backslash.as_bytes()).unwrap();
        assert_eq!(id.broadcast_address, "\\ud800");
        let unknown = WHOLE.replace('}', ",\"\\ud800\":\"\\ud800\"}");
        assert_eq!(parse(unknown.as_bytes()), parse(WHOLE.as_bytes()));
    }

    #[test]
    fn texts_are_bounded() {
        let with = |field: &str| {
            let long = format!(",\"{field}\":\"{}\"}}", "x".repeat(LONGEST_TEXTS));
            parse(WHOLE.replace('}', &long).as_bytes())
        };
        assert_eq!(with("hostname"), Err(ProtocolError::BodySizeInvalid));
        assert!(with("unknown").is_ok());
    }

    #[test]
    fn refuses_the_rest() {
        let with = |field: &str| WHOLE.replace('}', &format!(",{field}}}"));
        for body in [
            "",
            "{",
            "[]",
            "7",
            "\"x\"",
            &format!("{WHOLE}x"),
            &with("\"hostname\":\"a\nb\""),
            &with("\"hostname\":\"\\u12\""),
            &with("\"hostname\":\"\\"),
            &with("\"hostname\":\"\\u€€€€\""),
            &with("\"hostname\":\"\\€€€€\""),
            &with("\"tcp_port\":\"4150\""),
            &with("\"tcp_port\":4150.0"),
            &with("\"tcp_port\":9223372036854775808"),
            &with("\"version\":1"),
            &with("\"remote_address\":1"),
            &with("\"topology_zone\":[]"),
        ] {
            assert_eq!(
                parse(body.as_bytes()),
                Err(ProtocolError::BodyNotJson),
                "{body}"
            );
        }
        for body in [
            "{}",
            "null",
            &with("\"tcp_port\":0"),
            &with("\"version\":\"\""),
        ] {
            assert_eq!(
                parse(body.as_bytes()),
                Err(ProtocolError::BodyIncomplete),
                "{body}"
            );
        }
    }
}
