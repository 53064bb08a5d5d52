//! Bounds the undecided changes of sessions, of each and in total.

use std::sync::Arc;

use raftlookupd_raft::storage::registration::ProducerId;

use super::effects::CloseReason;
use super::ids::SessionId;
use super::session::Session;
use super::state::Owner;

/// The limit of sessions of one producer. Two paths to a member and what a broken network leaves
/// half open are a handful.
const MOST_SESSIONS: usize = 64;

impl Owner {
    /// Closes a session that has too much undecided; returns whether it is this one.
    pub(super) fn bound(&mut self, session: SessionId) -> bool {
        let bytes = self.sessions.get(&session).map(Session::undecided_bytes);
        if bytes.is_some_and(|bytes| bytes > self.settings.most_undecided) {
            self.end(session, CloseReason::TooMuchUndecided);
            return true;
        }
        if self.undecided_bytes <= self.settings.most_undecided_in_total {
            return false;
        }
        let sessions = self.sessions.iter();
        let most = sessions.max_by_key(|(_, session)| session.undecided_bytes());
        let Some(most) = most.map(|(id, _)| *id) else {
            return false;
        };
        self.end(most, CloseReason::MostUndecided);
        most == session
    }

    /// Closes the session of a producer that has been silent for longest, if there are too many:
    /// whatever is compared is compared with all of them.
    pub(super) fn bound_sessions(&mut self, id: &Arc<ProducerId>) {
        let Some(producer) = self.producers.get(id) else {
            return;
        };
        if producer.sessions.len() <= MOST_SESSIONS {
            return;
        }
        let heard = |session: &SessionId| self.sessions.get(session).map(|session| session.heard);
        let longest = producer.sessions.iter().copied().min_by_key(heard);
        if let Some(session) = longest {
            self.end(session, CloseReason::TooManySessions);
        }
    }

    /// Changes a session, and keeps the total of undecided bytes up to date.
    pub(super) fn account(&mut self, session: SessionId, change: impl FnOnce(&mut Session)) {
        let Some(session) = self.sessions.get_mut(&session) else {
            return;
        };
        let before = session.undecided_bytes();
        change(session);
        self.undecided_bytes = self.undecided_bytes - before + session.undecided_bytes();
    }
}
