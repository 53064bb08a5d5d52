//! Defines what a call results in: the reply to a command, and other effects.

use std::time::Duration;

use raftlookupd_raft::storage::registration::ProducerId;

use super::ids::{SessionId, Ticket};

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Decided as the client asked.
    Done,
    /// Not decided in time; what it asked for stays wanted.
    Unavailable,
    /// To be confirmed after a barrier.
    Confirm,
}

/// What to do about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Answer this.
    Now(Verdict),
    /// Wait for an [`Effect::Answer`] for at most this long, then expire the ticket.
    Wait(Ticket, Duration),
    /// Make a barrier, for at most this long, then confirm the ticket, or expire it.
    Confirm(Ticket, Duration),
}

/// What the owner wants done, apart from replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer a command that waits.
    Answer(Ticket, Verdict),
    /// Close the connection of a session, which the owner has already forgotten.
    Close(SessionId, CloseReason),
    /// Two open connections announce one producer.
    Shared {
        /// The producer.
        producer: ProducerId,
        /// `ip:port` of the newest connection, and of another.
        remote_addresses: [String; 2],
    },
    /// No session of the producer sent a PING within the timeout (false), or one does again (true).
    Active(ProducerId, bool),
    /// This many producers of earlier incarnations did not come back.
    Abandoned(usize),
}

/// Why this member closes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// It has more undecided changes than allowed.
    TooMuchUndecided,
    /// All sessions together have more than allowed, and it has the most.
    MostUndecided,
    /// It is silent, and another session of its producer is not.
    PresumedDead,
    /// Its producer has too many sessions, and it has been silent for longest.
    TooManySessions,
    /// A snapshot has replaced the registry.
    Replaced,
}
