//! Compares all names of one producer, page by page: those recorded, then those wanted.

use raftlookupd_raft::storage::registration_db::Name;

use super::producer::{Review, Withdrawn};
use super::reconcile::Reconciler;

/// The number of names fetched at once.
const PAGE: usize = 128;

impl Reconciler<'_> {
    /// Reviews one name of the page, or fetches the next page.
    pub(super) fn review(&mut self, mut review: Review) {
        if let Some(name) = review.page.pop_front() {
            match review.session {
                None => self.review_recorded(name, review.is_audit),
                Some(_) => self.review_wanted(name, review.is_audit),
            }
            self.producer.review = Some(review);
            return;
        }
        let page = match review.session {
            None => {
                let after = review.after.as_ref();
                self.db.recorded_after(self.member, self.id, after, PAGE)
            }
            Some(session) => {
                let session = self.sessions.get(&session);
                session.map_or_else(Vec::new, |session| {
                    session.claims.after(review.after.as_ref(), PAGE)
                })
            }
        };
        match page.last() {
            Some(last) => review.after = Some(last.clone()),
            None => {
                // Sessions are in the order of their beginning; any may have ended meanwhile.
                let sessions = self.producer.sessions.iter().copied();
                let next = sessions.filter(|id| Some(*id) > review.session).min();
                if next.is_none() {
                    return;
                }
                review.after = None;
                review.session = next;
            }
        }
        review.page = page.into();
        self.producer.review = Some(review);
    }

    fn review_recorded(&mut self, name: Name, is_audit: bool) {
        let is_open = self.producer.undecided.has(&name);
        if is_open || self.is_wanted(&name) || self.is_inherited() {
            return;
        }
        if !self.is_recorded(&name) {
            return;
        }
        *self.repairs += u64::from(is_audit && self.producer.is_settled());
        self.producer.withdrawn.push_back(Withdrawn::spoken(&name));
    }

    fn review_wanted(&mut self, name: Name, is_audit: bool) {
        let is_open = self.producer.undecided.has(&name) || self.producer.is_taken(&name);
        if is_open || self.is_recorded(&name) || self.comes_with_channel(&name) {
            return;
        }
        *self.repairs += u64::from(is_audit && self.producer.is_settled());
        self.producer.registered.insert(name);
    }

    /// Whether this is a topic that will be recorded with the claim of a channel.
    fn comes_with_channel(&self, (topic, channel): &Name) -> bool {
        let sessions = self.producer.sessions.iter();
        let mut channels = sessions.filter_map(|session| {
            let claims = &self.sessions.get(session)?.claims;
            Some((topic.clone(), Some(claims.first_channel(topic)?.clone())))
        });
        channel.is_none() && channels.any(|name| !self.producer.is_taken(&name))
    }
}
