//! Defines the errors of the V1 protocol, with upstream's texts, byte for byte. PURE.

use crate::nsqd::protocol::verb::Verb;

/// An error answered to a client. All but [`ProtocolError::Unavailable`] close the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtocolError {
    /// The first four bytes are not `"  V1"`.
    BadMagic,
    /// Unknown command; the word as sent.
    InvalidCommand(Vec<u8>),
    /// (UN)REGISTER came before IDENTIFY.
    MustIdentify,
    /// A second IDENTIFY.
    IdentifyAgain,
    /// (UN)REGISTER without a topic.
    MissingParams(Verb),
    /// The topic's name is not valid; the name as sent.
    BadTopic(Verb, Vec<u8>),
    /// The channel's name is not valid; the name as sent.
    BadChannel(Verb, Vec<u8>),
    /// The connection ended within the length of the IDENTIFY body.
    BodySizeCut,
    /// The announced length is negative or exceeds the limit. Upstream panics, or allocates it.
    BodySizeInvalid,
    /// The connection ended within the IDENTIFY body.
    BodyCut,
    /// The IDENTIFY body is not the expected JSON.
    BodyNotJson,
    /// A required field is missing, empty or 0.
    BodyIncomplete,
    /// The line exceeds the limit. Upstream buffers it without limit.
    LineTooLong,
    /// The member is starting, or its cluster has no quorum. The command takes effect as soon as there
    /// is one, if the connection is still open.
    Unavailable,
}

impl ProtocolError {
    /// The body of the answer.
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
