//! Random events against a naive model: the registry must list what the model lists, write
//! through what a restart would load, and not care about repeated or late batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use raftlookupd_storage::event::{Event, MemberBatch, Proposal};
use raftlookupd_storage::registration::{MemberId, PeerInfo, ProducerId, SessionId};
use raftlookupd_storage::registration_db::{Lifetimes, RegistrationDb};

const TOPICS: [&str; 3] = ["orders", "mails", "t#ephemeral"];
const CHANNELS: [&str; 3] = ["a", "b", "c#ephemeral"];
const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
const MEMBERS: [MemberId; 3] = [1, 2, 3];

/// What can happen, by small numbers that pick names.
#[derive(Debug, Clone)]
enum Step {
    Attach(usize),
    Claim(usize, usize, Option<usize>),
    Release(usize, usize, Option<usize>),
    Detach(usize),
    SetActive(usize, bool),
    CreateChannel(usize, usize),
    DeleteTopic(usize),
    DeleteChannel(usize, usize),
    Suspend(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let (host, topic, channel) = (0..3usize, 0..3usize, 0..3usize);
    let maybe_channel = proptest::option::of(0..3usize);
    let step = prop_oneof![
        3 => host.clone().prop_map(Step::Attach),
        8 => (host.clone(), topic.clone(), maybe_channel.clone())
            .prop_map(|(h, t, c)| Step::Claim(h, t, c)),
        4 => (host.clone(), topic.clone(), maybe_channel)
            .prop_map(|(h, t, c)| Step::Release(h, t, c)),
        2 => host.clone().prop_map(Step::Detach),
        1 => (host, any::<bool>()).prop_map(|(h, active)| Step::SetActive(h, active)),
        1 => (topic.clone(), channel.clone()).prop_map(|(t, c)| Step::CreateChannel(t, c)),
        1 => topic.clone().prop_map(Step::DeleteTopic),
        1 => (topic, channel).prop_map(|(t, c)| Step::DeleteChannel(t, c)),
        1 => (0..3usize, any::<bool>()).prop_map(|(m, away)| Step::Suspend(m, away)),
    ];
    proptest::collection::vec((0..3usize, step), 1..80)
}

type Claim = (String, Option<String>, usize, MemberId);

/// The rules once more, in sets and by scanning everything.
#[derive(Default)]
struct Model {
    listed: BTreeSet<(String, Option<String>)>,
    claims: BTreeSet<Claim>,
    /// (host, member) -> (session number, active)
    attachments: BTreeMap<(usize, MemberId), (u64, bool)>,
    suspended: BTreeSet<MemberId>,
    sessions: u64,
}

impl Model {
    fn session(&self, host: usize, member: MemberId) -> SessionId {
        let attached = self.attachments.get(&(host, member));
        SessionId {
            incarnation: 1,
            number: attached.map_or(u64::MAX, |(number, _)| *number),
        }
    }

    /// The event of a step, after doing to the model what it should do to the registry.
    fn step(&mut self, member: MemberId, step: &Step) -> Event {
        let topic = |t: &usize| TOPICS[*t].to_string();
        let channel = |c: &usize| CHANNELS[*c].to_string();
        match step {
            Step::Attach(host) => {
                self.sessions += 1;
                self.attachments
                    .insert((*host, member), (self.sessions, true));
                Event::Attach {
                    producer: ProducerId {
                        broadcast_address: HOSTS[*host].into(),
                        tcp_port: 4150,
                    },
                    session: self.session(*host, member),
                    remote_address: "10.0.0.1:5000".into(),
                    info: PeerInfo::default(),
                    at: self.sessions,
                }
            }
            Step::Claim(host, t, c) => {
                let (topic, channel) = (topic(t), c.as_ref().map(channel));
                if self.attachments.contains_key(&(*host, member)) {
                    for name in [None, channel.clone()] {
                        self.listed.insert((topic.clone(), name.clone()));
                        self.claims.insert((topic.clone(), name, *host, member));
                    }
                }
                let session = self.session(*host, member);
                Event::Claim {
                    session,
                    topic,
                    channel,
                }
            }
            Step::Release(host, t, c) => {
                let (topic, channel) = (topic(t), c.as_ref().map(channel));
                if self.attachments.contains_key(&(*host, member)) {
                    let released = |claim: &Claim| {
                        let below = channel.is_none() || claim.1 == channel;
                        claim.0 == topic && below && claim.2 == *host && claim.3 == member
                    };
                    // What was named counts as touched even if it was not held, as upstream.
                    let mut touched = BTreeSet::from([(topic.clone(), channel.clone())]);
                    let held = self.claims.iter().filter(|claim| released(claim));
                    touched.extend(held.map(|claim| (claim.0.clone(), claim.1.clone())));
                    self.claims.retain(|claim| !released(claim));
                    self.drop_ephemeral(|name| touched.contains(name));
                }
                let session = self.session(*host, member);
                Event::Release {
                    session,
                    topic,
                    channel,
                }
            }
            Step::Detach(host) => {
                let session = self.session(*host, member);
                self.attachments.remove(&(*host, member));
                let gone = |claim: &Claim| claim.2 == *host && claim.3 == member;
                let touched: Vec<_> = self.claims.iter().filter(|c| gone(c)).cloned().collect();
                self.claims.retain(|claim| !gone(claim));
                self.drop_ephemeral(|name| {
                    touched
                        .iter()
                        .any(|claim| claim.0 == name.0 && claim.1 == name.1)
                });
                Event::Detach { session }
            }
            Step::SetActive(host, active) => {
                if let Some(attachment) = self.attachments.get_mut(&(*host, member)) {
                    attachment.1 = *active;
                }
                let (session, active) = (self.session(*host, member), *active);
                Event::SetActive { session, active }
            }
            Step::CreateChannel(t, c) => {
                self.listed.insert((topic(t), None));
                self.listed.insert((topic(t), Some(channel(c))));
                let (topic, channel) = (topic(t), channel(c));
                Event::CreateChannel { topic, channel }
            }
            Step::DeleteTopic(t) => {
                let topic = topic(t);
                self.listed.retain(|name| name.0 != topic);
                self.claims.retain(|claim| claim.0 != topic);
                Event::DeleteTopic { topic }
            }
            Step::DeleteChannel(t, c) => {
                let (topic, channel) = (topic(t), channel(c));
                let name = (topic.clone(), Some(channel.clone()));
                self.listed.remove(&name);
                self.claims
                    .retain(|claim| claim.0 != name.0 || claim.1 != name.1);
                Event::DeleteChannel { topic, channel }
            }
            Step::Suspend(m, away) => {
                let member = MEMBERS[*m];
                if *away {
                    self.suspended.insert(member);
                    Event::SuspendMember { member }
                } else {
                    self.suspended.remove(&member);
                    Event::ResumeMember { member }
                }
            }
        }
    }

    /// Ephemeral names among the touched ones that nobody claims any more go; a topic with all
    /// that is below it.
    fn drop_ephemeral(&mut self, touched: impl Fn(&(String, Option<String>)) -> bool) {
        let claimed = |name: &(String, Option<String>)| {
            self.claims
                .iter()
                .any(|claim| claim.0 == name.0 && claim.1 == name.1)
        };
        let gone: Vec<_> = self
            .listed
            .iter()
            .filter(|name| name.1.as_ref().unwrap_or(&name.0).ends_with("#ephemeral"))
            .filter(|name| touched(name) && !claimed(name))
            .cloned()
            .collect();
        for name in gone {
            if name.1.is_none() {
                self.listed.retain(|other| other.0 != name.0);
                self.claims.retain(|claim| claim.0 != name.0);
            } else {
                self.listed.remove(&name);
            }
        }
    }

    fn producers(&self, topic: &str) -> BTreeSet<String> {
        let active = |host, member| {
            self.attachments
                .get(&(host, member))
                .is_some_and(|(_, active)| *active)
                && !self.suspended.contains(&member)
        };
        self.claims
            .iter()
            .filter(|claim| claim.0 == topic && claim.1.is_none() && active(claim.2, claim.3))
            .map(|claim| HOSTS[claim.2].to_string())
            .collect()
    }

    fn assert_equals(&self, db: &RegistrationDb) {
        let lifetimes = Lifetimes {
            now: 0,
            tombstone: 45_000,
        };
        for topic in TOPICS {
            let listed = self.listed.contains(&(topic.to_string(), None));
            let channels: Option<Vec<&str>> = db.channels(topic).map(Iterator::collect);
            let expected: Vec<&str> = CHANNELS
                .into_iter()
                .filter(|name| {
                    self.listed
                        .contains(&(topic.into(), Some(name.to_string())))
                })
                .collect();
            assert_eq!(channels, listed.then_some(expected), "channels of {topic}");
            let producers: Option<BTreeSet<String>> = db.producers(topic, lifetimes).map(|found| {
                found
                    .map(|view| view.id.broadcast_address.clone())
                    .collect()
            });
            let expected = listed.then(|| self.producers(topic));
            assert_eq!(producers, expected, "producers of {topic}");
        }
        assert_eq!(db.totals().claims, self.claims.len());
        assert_eq!(db.totals().attachments, self.attachments.len());
    }
}

fn proposal(member: MemberId, sequence: u64, events: Vec<Event>) -> Proposal {
    Proposal {
        batches: vec![MemberBatch {
            member,
            incarnation: 1,
            sequence,
            events,
        }],
        ..Proposal::default()
    }
}

proptest! {
    #[test]
    fn the_registry_lists_what_the_model_lists(steps in steps()) {
        let mut model = Model::default();
        let mut db = RegistrationDb::new();
        let mut rows = BTreeMap::new();
        for (sequence, (member, step)) in (1..).zip(&steps) {
            let member = MEMBERS[*member];
            let event = model.step(member, step);
            let applied = db.apply(&proposal(member, sequence, vec![event])).unwrap();
            for change in applied.changes {
                match change.value {
                    Some(value) => rows.insert(change.key, value),
                    None => rows.remove(&change.key),
                };
            }
            model.assert_equals(&db);
        }
        let loaded = RegistrationDb::from_rows(rows.into_iter().map(Ok)).unwrap();
        prop_assert_eq!(loaded.state_hash(), db.state_hash());
        model.assert_equals(&loaded);
    }

    #[test]
    fn repeated_and_late_batches_change_nothing(
        steps in steps(),
        repeats in proptest::collection::vec((any::<prop::sample::Index>(), 1..4usize), 0..40),
    ) {
        let mut model = Model::default();
        let proposals: Vec<Proposal> = (1..)
            .zip(&steps)
            .map(|(sequence, (member, step))| {
                let member = MEMBERS[*member];
                let event = model.step(member, step);
                proposal(member, sequence, vec![event])
            })
            .collect();
        let mut once = RegistrationDb::new();
        for proposal in &proposals {
            once.apply(proposal).unwrap();
        }
        // The same, with batches that come again, at once or later.
        let mut again = RegistrationDb::new();
        for (position, proposal) in proposals.iter().enumerate() {
            again.apply(proposal).unwrap();
            for (index, times) in &repeats {
                if index.index(proposals.len()) <= position {
                    for _ in 0..*times {
                        again.apply(&proposals[index.index(proposals.len())]).unwrap();
                    }
                }
            }
        }
        prop_assert_eq!(once.state_hash(), again.state_hash());
        model.assert_equals(&again);
    }
}
