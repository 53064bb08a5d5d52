//! What several sessions of one nsqd mean for whether it is listed for a topic. PURE.
//!
//! It is listed while any of its sessions claims the topic, so the history of the listing follows
//! from what each session said and was answered. One thread drives all sessions of an nsqd: the
//! history still has a single writer.

use super::history::{At, Write};

/// What one session holds of the topic, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Absent,
    Unknown,
    Held,
}

/// The claims of a topic by all sessions of one nsqd.
#[derive(Debug, Clone)]
pub struct Listing(Vec<Claim>);

impl Listing {
    /// Nothing is claimed by any of these sessions.
    pub fn new(sessions: usize) -> Self {
        Listing(vec![Claim::Absent; sessions])
    }

    /// Whether at least one session holds it for certain.
    pub fn is_held(&self) -> bool {
        self.0.contains(&Claim::Held)
    }

    /// Whether it is not known what some session holds.
    pub fn is_in_doubt(&self) -> bool {
        self.0.contains(&Claim::Unknown)
    }

    /// A REGISTER was answered; not acknowledged, its outcome is unknown.
    pub fn register(&mut self, session: usize, began: At, acknowledged: Option<At>) -> Vec<Write> {
        if acknowledged.is_some() {
            self.0[session] = Claim::Held;
            return vec![Write {
                listed: true,
                began,
                acknowledged,
            }];
        }
        if self.0[session] == Claim::Absent {
            self.0[session] = Claim::Unknown;
        }
        self.doubt(began)
    }

    /// An UNREGISTER was answered.
    pub fn unregister(
        &mut self,
        session: usize,
        began: At,
        acknowledged: Option<At>,
    ) -> Vec<Write> {
        self.0[session] = match acknowledged {
            Some(_) => Claim::Absent,
            None if self.0[session] == Claim::Absent => Claim::Absent,
            None => Claim::Unknown,
        };
        if self.is_held() {
            return Vec::new();
        }
        let Some(at) = acknowledged else {
            return self.doubt(began);
        };
        let gone = Write {
            listed: false,
            began,
            acknowledged,
        };
        let mut writes = vec![gone];
        if self.is_in_doubt() {
            writes.extend(self.doubt(at));
        }
        writes
    }

    /// The session has ended, or is about to: what it claimed goes at some time.
    pub fn lose(&mut self, session: usize, now: At) -> Vec<Write> {
        match std::mem::replace(&mut self.0[session], Claim::Absent) {
            Claim::Absent => Vec::new(),
            Claim::Unknown | Claim::Held => self.doubt(now),
        }
    }

    /// From now on it may be listed or not, and that may change, unless some session holds it.
    fn doubt(&self, began: At) -> Vec<Write> {
        if self.is_held() {
            return Vec::new();
        }
        let unknown = |listed| Write {
            listed,
            began,
            acknowledged: None,
        };
        [false, true, false].map(unknown).to_vec()
    }
}
