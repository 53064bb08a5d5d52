//! Renders one line of the log, as text or JSON.

use std::fmt::Write;

use chrono::{Local, SecondsFormat, Utc};
use serde_json::{Map, Value};

use super::settings::{LogFormat, LogSettings};

/// Renders a line, without its LF.
pub(super) fn render(
    settings: &LogSettings,
    level: &str,
    target: &str,
    message: &str,
    fields: &[(&str, Value)],
) -> String {
    match settings.format {
        LogFormat::Text => {
            let time = Local::now().format("%Y/%m/%d %H:%M:%S%.6f");
            let mut line = format!("{}{time} {level}: ", settings.prefix);
            push_text(&mut line, message);
            for (name, value) in fields {
                line.push_str(&format!(" {name}="));
                match value {
                    Value::String(text) if text.is_empty() || text.contains([' ', '"']) => {
                        push_text(&mut line, &format!("{text:?}"));
                    }
                    Value::String(text) => push_text(&mut line, text),
                    value => push_text(&mut line, &value.to_string()),
                }
            }
            line
        }
        LogFormat::Json => {
            let mut object = Map::new();
            let time = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
            object.insert("time".into(), time.into());
            object.insert("level".into(), level.to_lowercase().into());
            object.insert("target".into(), target.into());
            object.insert("message".into(), message.into());
            for (name, value) in fields {
                let taken = object.contains_key(*name);
                let name = if taken {
                    format!("event_{name}")
                } else {
                    (*name).into()
                };
                object.insert(name, value.clone());
            }
            escape_controls(&Value::Object(object).to_string())
        }
    }
}

/// Appends a text with control characters escaped: clients must not be able to end a line, or to
/// control a terminal.
fn push_text(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
}

/// Escapes control characters that JSON allows but terminals obey.
fn escape_controls(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() {
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(format: LogFormat, message: &str, fields: &[(&str, Value)]) -> String {
        let settings = LogSettings {
            prefix: "[here] ".into(),
            format,
            ..LogSettings::default()
        };
        render(&settings, "WARNING", "raftlookupd::x", message, fields)
    }

    #[test]
    fn text_lines() {
        let fields = [
            ("term", 5.into()),
            ("leader", "b".into()),
            ("error", "no quorum".into()),
            ("empty", "".into()),
            ("missing", vec!["b", "c"].into()),
        ];
        let line = rendered(LogFormat::Text, "a\nb\u{1b}[2J \u{e9}", &fields);
        let (prefix, rest) = line.split_at("[here] ".len());
        assert_eq!(prefix, "[here] ");
        let (time, text) = rest.split_at("2006/01/02 15:04:05.000000".len());
        let digits: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(digits, "0000/00/00 00:00:00.000000");
        assert_eq!(
            text,
            " WARNING: a\\nb\\u{1b}[2J \u{e9} term=5 leader=b error=\"no quorum\" empty=\"\" missing=[\"b\",\"c\"]"
        );
    }

    #[test]
    fn json_lines() {
        let fields = [
            ("term", 5.into()),
            ("leader", "b".into()),
            ("target", "c".into()),
        ];
        let message = "a\n\"b\"\u{1b}[2J\u{9b}2J\u{7f}";
        let line = rendered(LogFormat::Json, message, &fields);
        assert!(!line.contains(char::is_control), "{line}");
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message"], message);
        let time = object["time"].as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
        assert!(time.ends_with('Z'), "{time}");
        assert_eq!(object["level"], "warning");
        assert_eq!(object["target"], "raftlookupd::x");
        assert_eq!(object["term"], 5);
        assert_eq!(object["leader"], "b");
        assert_eq!(object["event_target"], "c");
    }
}
