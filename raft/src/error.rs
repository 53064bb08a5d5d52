//! Defines what can go wrong while events are agreed.

use raftlookupd_storage::event::Refusal;

/// The one error of this crate.
///
/// Three kinds of answers to a write must never be mixed up: [`Error::Refused`] (decided, changed
/// nothing), [`Error::NoQuorum`] (certainly not proposed) and [`Error::OutcomeUnknown`] (it may
/// or may not take effect, now or later).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or what is on it. The member must stop.
    #[error(transparent)]
    Storage(#[from] raftlookupd_storage::Error),
    /// Committed, and refused by the registry.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// No leader is known, or it reaches no quorum. Nothing was proposed.
    #[error("no quorum")]
    NoQuorum,
    /// The deadline passed while the write was under way.
    #[error("the outcome of the write is not known")]
    OutcomeUnknown,
    /// Too many events wait for a quorum already.
    #[error("too many events wait for a quorum")]
    QueueFull,
    /// The disk is almost full, and the event would take space. Nothing was proposed.
    #[error("the disk is almost full")]
    DiskFull,
    /// The member has not loaded its state, or not yet become part of a cluster.
    #[error("this member is still loading")]
    Loading,
    /// The member is stopping.
    #[error("this member is stopping")]
    Stopping,
    /// The member cannot become, or remain, part of the cluster; says why and what would help.
    #[error("{0}")]
    Membership(String),
    /// This member was removed from the cluster; a restart changes nothing about that.
    #[error("{0}")]
    Removed(String),
    /// An operator's change names a member that the cluster does not have.
    #[error("{0}")]
    UnknownMember(String),
    /// An operator's change would do harm, or is not possible; says what would help.
    #[error("{0}")]
    ChangeRefused(String),
    /// The disk failed while Raft used it. The member must stop.
    #[error("the store failed: {0}")]
    StorageFailed(String),
    /// The Raft core gave up; the member must stop.
    #[error("raft stopped: {0}")]
    Fatal(String),
}

/// What fallible calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// The last cause in the chain says what happened; the others say which library noticed.
pub(crate) fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}
