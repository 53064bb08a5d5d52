//! Bounds the undecided changes of sessions, of each and in total.

use super::effects::CloseReason;
use super::ids::SessionId;
use super::session::Session;
use super::state::Owner;

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
