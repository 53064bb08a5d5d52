//! Says how a cluster command ended.

/// Why a command did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failed {
    /// What scripts tell apart.
    pub kind: Kind,
    /// For people, on one line.
    pub reason: String,
}

/// The kinds of failures, by exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything else; also a cluster that is not healthy.
    Failed,
    /// No endpoint answers.
    Unreachable,
    /// No leader with a quorum.
    NoQuorum,
    /// There is no such member.
    NotFound,
    /// It would do harm.
    Refused,
}

impl Kind {
    /// The exit status; 2 is for wrong flags.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Unreachable => 3,
            Kind::NoQuorum => 4,
            Kind::NotFound => 5,
            Kind::Refused => 6,
        }
    }

    /// The kind of an HTTP answer that is an error.
    pub(crate) fn of(status: u16, message: &str) -> Kind {
        match (status, message) {
            (503, "NO_QUORUM") => Kind::NoQuorum,
            (404, "MEMBER_NOT_FOUND") => Kind::NotFound,
            (409, "CHANGE_REFUSED") => Kind::Refused,
            _ => Kind::Failed,
        }
    }
}

impl Failed {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Failed {
        let reason = reason.into();
        Failed { kind, reason }
    }
}
