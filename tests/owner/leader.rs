//! What the leader notices: members that are away, and what expires. The rules of
//! `raft/src/absence.rs`, `keep_alive.rs` and `sweeping.rs`, with time as a number.

use std::collections::{BTreeMap, BTreeSet};

use raftlookupd_raft::storage::event::Event;
use raftlookupd_raft::storage::registration::{MemberId, UnixMillis};
use raftlookupd_raft::storage::registration_db::RegistrationDb;

/// A member that was not heard for so long is away.
const AWAY_AFTER: u64 = 3_000;

/// A member is not recorded as away again sooner.
const AGAIN: u64 = 3_000;

/// How long a producer has to attach again.
pub const GRACE: u64 = 45_000;

/// Read at once.
const PAGE: usize = 1000;

/// What a leader knows of the others.
#[derive(Debug, Default)]
pub struct Leading {
    since: u64,
    /// When this member last heard the leader before.
    led_before: Option<u64>,
    heard: BTreeMap<MemberId, u64>,
    recorded: BTreeMap<MemberId, u64>,
}

impl Leading {
    pub fn new(since: u64, led_before: Option<u64>) -> Self {
        Leading {
            since,
            led_before,
            ..Leading::default()
        }
    }

    pub fn hears(&mut self, member: MemberId, at: u64) {
        let heard = self.heard.entry(member).or_insert(at);
        *heard = at.max(*heard);
    }

    /// Members that are away, and members that the cluster does not know any longer.
    pub fn judge(
        &mut self,
        now: u64,
        clock: UnixMillis,
        membership: &BTreeSet<MemberId>,
        me: MemberId,
        db: &RegistrationDb,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for member in membership.iter().copied().filter(|member| *member != me) {
            let heard = self.heard.get(&member).copied().max(self.led_before);
            let heard = heard.unwrap_or(self.since);
            let quiet = now - heard.max(self.since) > AWAY_AFTER;
            let recorded = self.recorded.get(&member);
            let again = recorded.is_some_and(|at| now - at < AGAIN);
            let settled = db.member(member).is_none_or(|row| row.away.is_some());
            if settled || !quiet || again {
                continue;
            }
            self.recorded.insert(member, now);
            let last_heard = clock.saturating_sub(now - heard);
            events.push(Event::Away {
                member,
                last_heard,
                at: clock,
            });
        }
        let gone = db.present_members().filter(|id| !membership.contains(id));
        events.extend(gone.map(|member| Event::RemoveMember { member }));
        events
    }
}

/// What expires by now.
pub fn expired(db: &RegistrationDb, clock: UnixMillis) -> Vec<Event> {
    if !db.has_absent_attachments() {
        return Vec::new();
    }
    let (names, _) = db.expirable_names(None, PAGE);
    let names = names.into_iter().map(|found| Event::ExpireName {
        producer: found.producer,
        topic: found.name.0.to_string(),
        channel: found.name.1.as_deref().map(String::from),
        released: found.released,
    });
    let (producers, _) = db.expirable(clock.saturating_sub(GRACE), None, PAGE);
    let producers = producers
        .into_iter()
        .map(|(producer, ended)| Event::Expire { producer, ended });
    names.chain(producers).collect()
}
