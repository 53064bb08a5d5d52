//! The body of an IDENTIFY, as Go's JSON decoder would read it. PURE.

use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};
use serde::Deserialize;
use serde_json::Value;

use crate::protocol::error::ProtocolError;

/// All texts together, in bytes: they are replicated and stored with every attachment. Unknown
/// fields do not count.
pub(crate) const LONGEST_TEXTS: usize = 16 * 1024;

/// Reads an IDENTIFY body.
///
/// As upstream: unknown keys are ignored, keys match in any case, of duplicates the last counts,
/// `null` equals absent, and what is no valid UTF-8 is replaced.
///
/// # Errors
/// [`ProtocolError::BodyNotJson`], also for values of the wrong type;
/// [`ProtocolError::BodyIncomplete`] if a field that must be there is missing, empty or 0;
/// [`ProtocolError::BodySizeInvalid`] if the texts are longer than any honest ones.
pub(crate) fn parse(body: &[u8]) -> Result<(ProducerId, PeerInfo), ProtocolError> {
    let text = String::from_utf8_lossy(body);
    let not_json = |_| ProtocolError::BodyNotJson;
    let body: Option<Fields> = serde_json::from_str(&text).map_err(not_json)?;
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

/// An object, key by key in the order in which it was sent: serde's derived code would refuse
/// duplicates and other cases of a key.
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

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        // Checked, though it is overwritten by the socket's address.
        let mut remote_address = String::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value::<Value>()?;
            let key = key.to_lowercase();
            let valid = match key.as_str() {
                "broadcast_address" => text(value, &mut fields.broadcast_address),
                "hostname" => text(value, &mut fields.hostname),
                "version" => text(value, &mut fields.version),
                "topology_zone" => text(value, &mut fields.topology_zone),
                "topology_region" => text(value, &mut fields.topology_region),
                "remote_address" => text(value, &mut remote_address),
                "tcp_port" => integer(&value, &mut fields.tcp_port),
                "http_port" => integer(&value, &mut fields.http_port),
                _ => true,
            };
            if !valid {
                return Err(serde::de::Error::custom(format!("wrong type: {key}")));
            }
        }
        Ok(fields)
    }
}

fn text(value: Value, field: &mut String) -> bool {
    match value {
        Value::String(text) => *field = text,
        Value::Null => {}
        _ => return false,
    }
    true
}

fn integer(value: &Value, field: &mut i64) -> bool {
    match value {
        Value::Null => return true,
        // 4150.0 is a float to Go, whatever its value.
        _ => match value.as_i64() {
            Some(number) => *field = number,
            None => return false,
        },
    }
    true
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
