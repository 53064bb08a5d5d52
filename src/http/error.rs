//! Maps every error that HTTP can answer to its status and message; nothing else does.

use raftlookupd_raft::Error;
use raftlookupd_raft::storage::event::Refusal;

/// An answer that is an error: `{"message":"..."}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HttpError {
    /// Not readable: a bad percent escape, a `;` in the query, a body that breaks off.
    InvalidRequest,
    /// A required argument is absent; its name in upper case.
    MissingArg(&'static str),
    /// The value of an argument is not valid; its name in upper case.
    InvalidArg(&'static str),
    /// The topic is not listed.
    TopicNotFound,
    /// The channel is not listed.
    ChannelNotFound,
    /// No such path.
    NotFound,
    /// The path allows these methods only.
    MethodNotAllowed(&'static str),
    /// The body is not a value of the setting.
    InvalidValue,
    /// The body is empty, or too long for a value.
    ValueSize,
    /// There is no profile for `go tool pprof`.
    Profile(ProfileError),
    /// The body exceeds the limit of size.
    BodyTooLarge,
    /// The body did not arrive within its deadline.
    BodyTooSlow,
    /// The member is starting, or not in a cluster yet.
    Loading,
    /// There is no quorum; nothing was changed.
    NoQuorum,
    /// The disk is almost full; nothing was changed.
    DiskFull,
    /// The cluster has no such member; why it looked for one.
    UnknownMember(String),
    /// A change of the membership that would do harm; what would help.
    ChangeRefused(String),
    /// The deadline passed after submission: the change may still be committed.
    OutcomeUnknown,
    /// Too many long answers are being built or sent.
    Busy,
    /// The answer does not fit into the memory for long answers.
    AnswerTooLarge,
    /// A failure of this member.
    Internal,
}

/// Why there is no profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProfileError {
    /// The duration is out of range, or not a number.
    Seconds,
    /// Another CPU profile is being taken.
    CpuInUse,
    /// Another heap profile is being taken.
    #[cfg(feature = "heap-profile")]
    HeapInUse,
    /// Allocations are not sampled.
    NoHeap,
    /// The client left before the profile was complete.
    Left,
    /// A failure of this member; the log has the reason.
    Failed,
}

impl HttpError {
    /// Why it is so, for people, if there is more to say than the message does.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            HttpError::UnknownMember(reason) | HttpError::ChangeRefused(reason) => Some(reason),
            _ => None,
        }
    }

    /// Status and message.
    pub(crate) fn status_and_message(&self) -> (u16, String) {
        match self {
            HttpError::InvalidRequest => (400, "INVALID_REQUEST".into()),
            HttpError::MissingArg(name) => (400, format!("MISSING_ARG_{name}")),
            HttpError::InvalidArg(name) => (400, format!("INVALID_ARG_{name}")),
            HttpError::TopicNotFound => (404, "TOPIC_NOT_FOUND".into()),
            HttpError::ChannelNotFound => (404, "CHANNEL_NOT_FOUND".into()),
            HttpError::NotFound => (404, "NOT_FOUND".into()),
            HttpError::UnknownMember(_) => (404, "MEMBER_NOT_FOUND".into()),
            HttpError::ChangeRefused(_) => (409, "CHANGE_REFUSED".into()),
            HttpError::MethodNotAllowed(_) => (405, "METHOD_NOT_ALLOWED".into()),
            HttpError::InvalidValue => (400, "INVALID_VALUE".into()),
            HttpError::ValueSize => (413, "INVALID_VALUE".into()),
            HttpError::Profile(error) => error.status_and_message(),
            HttpError::BodyTooSlow => (408, "BODY_TOO_SLOW".into()),
            HttpError::BodyTooLarge => (413, "BODY_TOO_LARGE".into()),
            HttpError::Internal => (500, "INTERNAL_ERROR".into()),
            HttpError::AnswerTooLarge => (500, "ANSWER_TOO_LARGE".into()),
            HttpError::Busy => (503, "BUSY".into()),
            HttpError::Loading => (503, "LOADING".into()),
            HttpError::NoQuorum => (503, "NO_QUORUM".into()),
            HttpError::DiskFull => (503, "DISK_FULL".into()),
            HttpError::OutcomeUnknown => (504, "OUTCOME_UNKNOWN".into()),
        }
    }
}

impl ProfileError {
    /// In plain text, as Go programs answer; `go tool pprof` prints it.
    fn status_and_message(self) -> (u16, String) {
        let (status, message) = match self {
            ProfileError::Seconds => (400, "seconds must be a whole number from 1 to 300"),
            ProfileError::CpuInUse => (
                500,
                "Could not enable CPU profiling: cpu profiling already in use",
            ),
            #[cfg(feature = "heap-profile")]
            ProfileError::HeapInUse => (
                500,
                "Could not take a heap profile: another is being taken, try again",
            ),
            ProfileError::NoHeap => (
                404,
                "No heap profile: this member runs without sampling of allocations",
            ),
            ProfileError::Left => (500, "The client left before the profile was taken"),
            ProfileError::Failed => (500, "Could not take the profile: the log says why"),
        };
        (status, message.into())
    }
}

impl From<ProfileError> for HttpError {
    fn from(error: ProfileError) -> Self {
        HttpError::Profile(error)
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(Refusal::ChannelNotFound) => HttpError::ChannelNotFound,
            Error::Loading | Error::Stopping => HttpError::Loading,
            Error::NoQuorum | Error::QueueFull => HttpError::NoQuorum,
            Error::DiskFull => HttpError::DiskFull,
            Error::OutcomeUnknown => HttpError::OutcomeUnknown,
            Error::UnknownMember(reason) => HttpError::UnknownMember(reason),
            Error::ChangeRefused(reason) => HttpError::ChangeRefused(reason),
            Error::Refused(Refusal::NotAttached | Refusal::Releasing)
            | Error::Storage(_)
            | Error::StorageFailed(_)
            | Error::Membership(_)
            | Error::Removed(_)
            | Error::Fatal(_) => HttpError::Internal,
        }
    }
}
