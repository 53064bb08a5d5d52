//! Carries the reason why the member cannot go on to its caller.

use tokio::sync::watch;

use crate::error::Error;

/// Why the member cannot go on; `None` while it can.
pub(crate) type Failure = watch::Sender<Option<Ending>>;

/// How Raft ended.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    /// The disk, or what is on it.
    Storage(String),
    /// The member no longer belongs to the cluster.
    Member(String),
    /// The member was removed from the cluster.
    Removed(String),
    /// Anything else; not expected while the member runs.
    Other(String),
}

impl Ending {
    /// Of a member that was removed; says what to do.
    pub(crate) fn removed(name: &str) -> Ending {
        Ending::Removed(format!(
            "this member was removed from the cluster, or replaced by one of its name; to let it in \
             again, give it an empty data path and run `raftlookupd cluster add {name} ADDRESS`"
        ))
    }
}

/// The member's failure as an error.
pub(crate) async fn failed(failure: &Failure) -> Error {
    let mut failures = failure.subscribe();
    let ending = failures.wait_for(Option::is_some).await;
    match ending.ok().and_then(|ending| ending.clone()) {
        Some(Ending::Storage(reason)) => Error::StorageFailed(reason),
        Some(Ending::Member(reason)) => Error::Membership(reason),
        Some(Ending::Removed(reason)) => Error::Removed(reason),
        Some(Ending::Other(reason)) => Error::Fatal(reason),
        None => Error::Stopping,
    }
}
