//! What nsqd is told when something is wrong: upstream's texts, byte for byte. PURE.

use crate::nsqd::protocol::command::Verb;

/// An answer that is an error. All but [`ProtocolError::Unavailable`] end the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// The first four bytes are not `"  V1"`.
    BadMagic,
    /// No such command; the word as it was sent.
    InvalidCommand(Vec<u8>),
    /// (UN)REGISTER came before IDENTIFY.
    MustIdentify,
    /// A second IDENTIFY.
    IdentifyAgain,
    /// (UN)REGISTER without a topic.
    MissingParams(Verb),
    /// The topic's name is not valid; the name as it was sent.
    BadTopic(Verb, Vec<u8>),
    /// The channel's name is not valid; the name as it was sent.
    BadChannel(Verb, Vec<u8>),
    /// The connection ended within the length of the IDENTIFY body.
    BodySizeCut,
    /// The announced length is negative or beyond any honest one. Upstream panics, or takes
    /// the memory.
    BodySizeInvalid,
    /// The connection ended within the IDENTIFY body.
    BodyCut,
    /// The IDENTIFY body is not the JSON that is expected.
    BodyNotJson,
    /// A field that must be there is missing, empty or 0.
    BodyIncomplete,
    /// The line is longer than any honest one. Upstream buffers it without end.
    LineTooLong,
    /// The member is starting, or its cluster has no quorum; the effect of the command follows
    /// as soon as there is one, unless the connection is closed as well.
    Unavailable,
}

impl ProtocolError {
    /// The answer's body.
    pub(crate) fn text(&self) -> Vec<u8> {
        let quoted = |before: String, name: &[u8]| {
            [before.as_bytes(), b" name '", name, b"' is not valid"].concat()
        };
        match self {
            ProtocolError::BadMagic => b"E_BAD_PROTOCOL".to_vec(),
            ProtocolError::InvalidCommand(word) => {
                [b"E_INVALID invalid command ", &word[..]].concat()
            }
            ProtocolError::MustIdentify => b"E_INVALID client must IDENTIFY".to_vec(),
            ProtocolError::IdentifyAgain => b"E_INVALID cannot IDENTIFY again".to_vec(),
            ProtocolError::MissingParams(verb) => {
                format!("E_INVALID {verb} insufficient number of params").into_bytes()
            }
            ProtocolError::BadTopic(verb, name) => {
                quoted(format!("E_BAD_TOPIC {verb} topic"), name)
            }
            ProtocolError::BadChannel(verb, name) => {
                quoted(format!("E_BAD_CHANNEL {verb} channel"), name)
            }
            ProtocolError::BodySizeCut => b"E_BAD_BODY IDENTIFY failed to read body size".to_vec(),
            ProtocolError::BodySizeInvalid => b"E_BAD_BODY IDENTIFY invalid body size".to_vec(),
            ProtocolError::BodyCut => b"E_BAD_BODY IDENTIFY failed to read body".to_vec(),
            ProtocolError::BodyNotJson => {
                b"E_BAD_BODY IDENTIFY failed to decode JSON body".to_vec()
            }
            ProtocolError::BodyIncomplete => b"E_BAD_BODY IDENTIFY missing fields".to_vec(),
            ProtocolError::LineTooLong => b"E_INVALID line too long".to_vec(),
            ProtocolError::Unavailable => b"E_UNAVAILABLE no quorum, will be retried".to_vec(),
        }
    }
}
