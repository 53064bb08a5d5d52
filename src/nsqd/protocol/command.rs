//! Parses a line into a command, by upstream's rules. PURE.

use crate::nsqd::protocol::error::ProtocolError;
use crate::nsqd::protocol::names::is_valid_name;
use crate::nsqd::protocol::verb::Verb;

/// A parsed line. Names are not validated yet: that the client must identify itself is reported first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// A heartbeat.
    Ping,
    /// Length and body follow.
    Identify,
    /// REGISTER or UNREGISTER with the words after it.
    Registration(Verb, Vec<Vec<u8>>),
}

impl Command {
    /// Parses a line without its LF.
    ///
    /// White space at both ends is trimmed, then single spaces separate the words: between two of
    /// them is an empty word.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidCommand`]; commands are case-sensitive.
    pub(crate) fn parse(line: &[u8]) -> Result<Command, ProtocolError> {
        let mut words = trim(line).split(|byte| *byte == b' ');
        let first = words.next().unwrap_or_default();
        let verb = match first {
            b"PING" => return Ok(Command::Ping),
            b"IDENTIFY" => return Ok(Command::Identify),
            b"REGISTER" => Verb::Register,
            b"UNREGISTER" => Verb::Unregister,
            _ => return Err(ProtocolError::InvalidCommand(first.to_vec())),
        };
        // Anything after topic and channel is ignored.
        let names = words.take(2).map(<[u8]>::to_vec).collect();
        Ok(Command::Registration(verb, names))
    }
}

/// Topic and channel of a (UN)REGISTER. An empty channel counts as none.
///
/// # Errors
/// [`ProtocolError::MissingParams`], [`ProtocolError::BadTopic`], [`ProtocolError::BadChannel`].
pub(crate) fn topic_and_channel(
    verb: Verb,
    names: &[Vec<u8>],
) -> Result<(String, Option<String>), ProtocolError> {
    let Some(topic) = names.first() else {
        return Err(ProtocolError::MissingParams(verb));
    };
    let checked = |name: &Vec<u8>| {
        let text = is_valid_name(name).then(|| String::from_utf8(name.clone()).ok());
        text.flatten()
    };
    let valid_topic = checked(topic).ok_or_else(|| ProtocolError::BadTopic(verb, topic.clone()))?;
    let channel = match names.get(1).filter(|name| !name.is_empty()) {
        Some(name) => {
            let bad = || ProtocolError::BadChannel(verb, name.clone());
            Some(checked(name).ok_or_else(bad)?)
        }
        None => None,
    };
    Ok((valid_topic, channel))
}

/// Trims like Go's `strings.TrimSpace`: Unicode white space, or ASCII's if the line is not UTF-8.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(verb: Verb, names: &[&str]) -> Result<Command, ProtocolError> {
        let names = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Command::Registration(verb, names))
    }

    #[test]
    fn lines_become_commands() {
        let invalid = |word: &str| Err(ProtocolError::InvalidCommand(word.into()));
        for (line, expected) in [
            ("PING", Ok(Command::Ping)),
            ("PING surplus", Ok(Command::Ping)),
            ("\t PING \r", Ok(Command::Ping)),
            ("\u{a0}PING\u{2003}", Ok(Command::Ping)),
            ("IDENTIFY", Ok(Command::Identify)),
            ("REGISTER t", registration(Verb::Register, &["t"])),
            (
                "REGISTER t c surplus",
                registration(Verb::Register, &["t", "c"]),
            ),
            ("REGISTER  t", registration(Verb::Register, &["", "t"])),
            ("REGISTER t  c", registration(Verb::Register, &["t", ""])),
            ("REGISTER t\tc", registration(Verb::Register, &["t\tc"])),
            ("UNREGISTER", registration(Verb::Unregister, &[])),
            ("", invalid("")),
            ("ping", invalid("ping")),
            ("PING\tx", invalid("PING\tx")),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn names_are_checked_topic_first() {
        let check = |names: &[&str]| {
            let names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            topic_and_channel(Verb::Register, &names)
        };
        assert_eq!(check(&["t"]), Ok(("t".into(), None)));
        assert_eq!(check(&["t", ""]), Ok(("t".into(), None)));
        assert_eq!(check(&["t", "c"]), Ok(("t".into(), Some("c".into()))));
        for (names, text) in [
            (&[][..], "E_INVALID REGISTER insufficient number of params"),
            (
                &["", "c"],
                "E_BAD_TOPIC REGISTER topic name '' is not valid",
            ),
            (
                &["a*", "b*"],
                "E_BAD_TOPIC REGISTER topic name 'a*' is not valid",
            ),
            (
                &["a", "b*"],
                "E_BAD_CHANNEL REGISTER channel name 'b*' is not valid",
            ),
        ] {
            let error = check(names).unwrap_err();
            assert_eq!(String::from_utf8(error.text()).unwrap(), text);
        }
    }
}
