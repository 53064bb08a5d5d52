//! The rules of the registry, each as a short story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

use raftlookupd_storage::event::{BatchResult, Event, MemberBatch, Proposal, Refusal};
use raftlookupd_storage::registration::{MemberId, PeerInfo, ProducerId, SessionId};
use raftlookupd_storage::registration_db::{Lifetimes, RegistrationDb};
use raftlookupd_storage::rows::RowChange;
use std::collections::BTreeMap;

const LIFETIMES: Lifetimes = Lifetimes {
    now: 100_000,
    tombstone: 45_000,
};

/// A registry, the rows it has written, and the sequence numbers of its members.
#[derive(Default)]
struct Story {
    db: RegistrationDb,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    sequences: BTreeMap<MemberId, u64>,
}

impl Story {
    fn apply(&mut self, member: MemberId, events: Vec<Event>) -> BatchResult {
        let sequence = self.sequences.entry(member).or_default();
        *sequence += 1;
        let batch = MemberBatch {
            member,
            incarnation: 1,
            sequence: *sequence,
            events,
        };
        self.apply_batch(batch)
    }

    fn apply_batch(&mut self, batch: MemberBatch) -> BatchResult {
        let proposal = Proposal {
            batches: vec![batch],
            ..Proposal::default()
        };
        self.propose(&proposal).remove(0)
    }

    fn propose(&mut self, proposal: &Proposal) -> Vec<BatchResult> {
        let applied = self.db.apply(proposal).unwrap();
        for RowChange { key, value } in applied.changes {
            match value {
                Some(value) => self.rows.insert(key, value),
                None => self.rows.remove(&key),
            };
        }
        self.rows_are_the_registry();
        applied.results
    }

    /// The rows are what a restart would load, hash included.
    fn rows_are_the_registry(&self) {
        let rows = self.rows.clone().into_iter().map(Ok);
        let loaded = RegistrationDb::from_rows(rows).unwrap();
        assert_eq!(loaded.state_hash(), self.db.state_hash());
        let exported = |db: &RegistrationDb| -> BTreeMap<Vec<u8>, Vec<u8>> {
            db.rows()
                .map(|row| (row.key(), row.value().unwrap()))
                .collect()
        };
        assert_eq!(exported(&self.db), self.rows);
        assert_eq!(exported(&loaded), self.rows);
        assert_eq!(loaded.totals(), self.db.totals());
    }

    /// One event; panics if it is refused.
    fn event(&mut self, member: MemberId, event: Event) {
        let result = self.apply(member, vec![event]);
        assert_eq!(result, BatchResult::Applied { refused: vec![] });
    }

    fn refused(&mut self, member: MemberId, event: Event) -> Refusal {
        match self.apply(member, vec![event]) {
            BatchResult::Applied { refused } if refused.len() == 1 => refused[0].1,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn attach(&mut self, member: MemberId, number: u64, host: &str) {
        self.event(member, attach(session(number), host, 0));
    }

    fn claim(&mut self, member: MemberId, number: u64, topic: &str, channel: Option<&str>) {
        self.event(
            member,
            Event::Claim {
                session: session(number),
                topic: topic.into(),
                channel: channel.map(Into::into),
            },
        );
    }

    fn release(&mut self, member: MemberId, number: u64, topic: &str, channel: Option<&str>) {
        self.event(
            member,
            Event::Release {
                session: session(number),
                topic: topic.into(),
                channel: channel.map(Into::into),
            },
        );
    }

    fn detach(&mut self, member: MemberId, number: u64) {
        self.event(
            member,
            Event::Detach {
                session: session(number),
            },
        );
    }

    fn topics(&self) -> Vec<&str> {
        self.db.topics().collect()
    }

    fn channels(&self, topic: &str) -> Option<Vec<&str>> {
        Some(self.db.channels(topic)?.collect())
    }

    fn producers(&self, topic: &str) -> Option<Vec<&str>> {
        self.producers_at(topic, LIFETIMES.now)
    }

    fn producers_at(&self, topic: &str, now: u64) -> Option<Vec<&str>> {
        let found = self.db.producers(topic, Lifetimes { now, ..LIFETIMES })?;
        Some(
            found
                .map(|view| view.id.broadcast_address.as_str())
                .collect(),
        )
    }

    fn nodes(&self) -> Vec<(&str, Vec<(&str, bool)>)> {
        let nodes = self.db.nodes(LIFETIMES);
        nodes
            .map(|node| (node.producer.id.broadcast_address.as_str(), node.topics))
            .collect()
    }
}

fn session(number: u64) -> SessionId {
    SessionId {
        incarnation: 1,
        number,
    }
}

fn attach(session: SessionId, host: &str, at: u64) -> Event {
    Event::Attach {
        producer: ProducerId {
            broadcast_address: host.into(),
            tcp_port: 4150,
        },
        session,
        remote_address: format!("{host}:{}", 50_000 + session.number),
        info: PeerInfo {
            hostname: host.into(),
            http_port: 4151,
            version: "1.3.0".into(),
            ..PeerInfo::default()
        },
        at,
    }
}

fn tombstone(topic: &str, node: &str, at: u64) -> Event {
    Event::Tombstone {
        topic: topic.into(),
        node: node.into(),
        at,
    }
}

#[test]
fn a_channel_claim_also_claims_the_topic() {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    story.claim(1, 1, "orders", Some("billing"));
    assert_eq!(story.topics(), ["orders"]);
    assert_eq!(story.channels("orders").unwrap(), ["billing"]);
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(story.nodes(), [("h1", vec![("orders", false)])]);
    assert_eq!(story.db.totals().claims, 2);
    assert_eq!(story.channels("unknown"), None);
    assert_eq!(story.producers("unknown"), None);
}

#[test]
fn names_stay_when_the_last_claim_goes() {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    story.claim(1, 1, "orders", Some("billing"));
    story.release(1, 1, "orders", Some("billing"));
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(story.channels("orders").unwrap(), ["billing"]);
    story.release(1, 1, "orders", None);
    assert!(story.producers("orders").unwrap().is_empty());
    story.claim(1, 1, "orders", Some("billing"));
    story.detach(1, 1);
    assert_eq!(story.topics(), ["orders"]);
    assert_eq!(story.channels("orders").unwrap(), ["billing"]);
    assert!(story.nodes().is_empty());
    assert_eq!(story.db.totals().claims, 0);
}

#[test]
fn releasing_a_topic_releases_its_channels() {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    story.claim(1, 1, "orders", Some("a"));
    story.claim(1, 1, "orders", Some("b#ephemeral"));
    story.release(1, 1, "orders", None);
    assert_eq!(story.channels("orders").unwrap(), ["a"]);
    assert_eq!(story.db.totals().claims, 0);
}

#[test]
fn ephemeral_names_go_with_their_last_claim() {
    for last in ["release", "detach", "remove member"] {
        let mut story = Story::default();
        story.attach(1, 1, "h1");
        story.attach(1, 2, "h2");
        for number in [1, 2] {
            story.claim(1, number, "t#ephemeral", Some("c"));
            story.claim(1, number, "orders", Some("c#ephemeral"));
        }
        story.detach(1, 1);
        assert_eq!(story.topics(), ["orders", "t#ephemeral"], "{last}");
        assert_eq!(story.channels("orders").unwrap(), ["c#ephemeral"], "{last}");
        match last {
            "release" => {
                story.release(1, 2, "t#ephemeral", None);
                story.release(1, 2, "orders", Some("c#ephemeral"));
            }
            "detach" => story.detach(1, 2),
            _ => story.event(2, Event::RemoveMember { member: 1 }),
        }
        assert_eq!(story.topics(), ["orders"], "{last}");
        assert!(story.channels("orders").unwrap().is_empty(), "{last}");
    }
}

#[test]
fn releasing_an_unclaimed_ephemeral_name_removes_it() {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    story.event(
        1,
        Event::CreateChannel {
            topic: "orders".into(),
            channel: "c#ephemeral".into(),
        },
    );
    story.release(1, 1, "orders", Some("c#ephemeral"));
    assert!(story.channels("orders").unwrap().is_empty());
    story.release(1, 1, "unknown", Some("c"));
    story.release(1, 1, "unknown", None);
    assert_eq!(story.topics(), ["orders"]);
}

#[test]
fn an_nsqd_at_three_members_is_one_producer() {
    let mut story = Story::default();
    for member in 1..=3 {
        story.attach(member, 1, "h1");
        story.claim(member, 1, "orders", Some("billing"));
    }
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(story.nodes().len(), 1);
    story.detach(1, 1);
    story.detach(3, 1);
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    story.detach(2, 1);
    assert!(story.producers("orders").unwrap().is_empty());
    assert_eq!(story.db.totals().producers, 0);
}

#[test]
fn a_newer_session_takes_over_with_the_claims() {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    story.claim(1, 1, "orders", Some("billing"));
    story.attach(1, 2, "h1");
    assert!(story.db.has_claim(1, session(2), "orders", Some("billing")));
    assert!(!story.db.has_claim(1, session(1), "orders", None));
    let inherited: Vec<_> = story.db.claims_of(1, session(2)).collect();
    assert_eq!(inherited, [("orders", None), ("orders", Some("billing"))]);
    let late = Event::Claim {
        session: session(1),
        topic: "late".into(),
        channel: None,
    };
    assert_eq!(story.refused(1, late), Refusal::NotAttached);
    story.detach(1, 1);
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(
        story.refused(1, attach(session(1), "h1", 0)),
        Refusal::NotAttached
    );
}

#[test]
fn what_the_leader_found_out_comes_after_the_batches() {
    let mut story = Story::default();
    let attached = MemberBatch {
        member: 1,
        incarnation: 1,
        sequence: 1,
        events: vec![
            attach(session(1), "h1", 0),
            Event::Claim {
                session: session(1),
                topic: "orders".into(),
                channel: None,
            },
        ],
    };
    let proposal = Proposal {
        batches: vec![attached],
        own: vec![Event::SuspendMember { member: 1 }],
    };
    let results = story.propose(&proposal);
    assert_eq!(results.len(), 1, "nobody waits for the leader's own");
    assert!(story.producers("orders").unwrap().is_empty());
    // Repeated with the same batch, which does not count again.
    story.propose(&proposal);
    let resumed = Proposal {
        own: vec![Event::ResumeMember { member: 1 }],
        ..Proposal::default()
    };
    story.propose(&resumed);
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
}

#[test]
fn an_inactive_or_suspended_attachment_is_hidden() {
    let set_active = |active| Event::SetActive {
        session: session(1),
        active,
    };
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    story.claim(1, 1, "orders", None);
    for (hide, show) in [
        (set_active(false), set_active(true)),
        (
            Event::SuspendMember { member: 1 },
            Event::ResumeMember { member: 1 },
        ),
    ] {
        story.event(1, hide);
        assert!(story.producers("orders").unwrap().is_empty());
        assert!(story.nodes().is_empty());
        assert_eq!(story.db.debug().count(), 2, "debug shows the inactive");
        story.event(1, show);
        assert_eq!(story.producers("orders").unwrap(), ["h1"]);
        assert_eq!(story.nodes().len(), 1);
    }
}

#[test]
fn deleted_names_come_back_only_by_a_new_claim() {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    story.claim(1, 1, "orders", Some("billing"));
    let delete = Event::DeleteChannel {
        topic: "orders".into(),
        channel: "billing".into(),
    };
    story.event(1, delete.clone());
    assert!(story.channels("orders").unwrap().is_empty());
    assert_eq!(story.refused(1, delete), Refusal::ChannelNotFound);
    let topic = "orders".to_string();
    story.event(1, Event::DeleteTopic { topic });
    assert!(story.topics().is_empty());
    assert_eq!(story.nodes(), [("h1", vec![])]);
    assert!(!story.db.has_claim(1, session(1), "orders", None));
    story.event(1, Event::DeleteTopic { topic: "*".into() });
    story.claim(1, 1, "orders", Some("billing"));
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
}

#[test]
fn a_tombstone_hides_one_producer_of_one_topic_for_a_while() {
    let mut story = Story::default();
    for (number, host) in [(1, "h1"), (2, "h2")] {
        story.attach(1, number, host);
        story.claim(1, number, "orders", None);
        story.claim(1, number, "mails", None);
    }
    story.event(1, tombstone("orders", "h1:4151", 100_000));
    story.event(1, tombstone("orders", "h2:4150", 100_000)); // not its HTTP port
    story.event(1, tombstone("unknown", "h1:4151", 100_000));
    assert_eq!(story.producers("orders").unwrap(), ["h2"]);
    assert_eq!(story.producers("mails").unwrap(), ["h1", "h2"]);
    let nodes = story.nodes();
    assert_eq!(nodes[0], ("h1", vec![("mails", false), ("orders", true)]));
    let before_its_end = story.producers_at("orders", 144_999);
    assert_eq!(before_its_end.unwrap(), ["h2"]);
    let after_its_end = story.producers_at("orders", 145_000);
    assert_eq!(after_its_end.unwrap(), ["h1", "h2"]);
    let on_a_slow_clock = story.producers_at("orders", 90_000);
    assert_eq!(on_a_slow_clock.unwrap(), ["h2"]);
}

#[test]
fn a_tombstone_ends_with_the_last_claim_on_the_topic() {
    let mut story = Story::default();
    for member in [1, 2] {
        story.attach(member, 1, "h1");
        story.claim(member, 1, "orders", None);
    }
    story.event(1, tombstone("orders", "h1:4151", 100_000));
    story.claim(1, 1, "orders", None);
    story.release(1, 1, "orders", None);
    assert!(story.producers("orders").unwrap().is_empty());
    story.claim(1, 1, "orders", None);
    assert!(story.producers("orders").unwrap().is_empty());
    story.release(1, 1, "orders", None);
    story.release(2, 1, "orders", None);
    story.claim(1, 1, "orders", None);
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
}

#[test]
fn a_batch_is_applied_once() {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    let batch = |incarnation, sequence, topic: &str| MemberBatch {
        member: 1,
        incarnation,
        sequence,
        events: vec![
            Event::DeleteChannel {
                topic: "orders".into(),
                channel: "none".into(),
            },
            Event::CreateTopic {
                topic: topic.into(),
            },
        ],
    };
    let refused = BatchResult::Applied {
        refused: vec![(0, Refusal::ChannelNotFound)],
    };
    assert_eq!(story.apply_batch(batch(1, 7, "seven")), refused);
    let hash = story.db.state_hash();
    assert_eq!(story.apply_batch(batch(1, 7, "repeated")), refused);
    assert_eq!(
        story.apply_batch(batch(1, 6, "late")),
        BatchResult::Superseded
    );
    assert_eq!(story.db.state_hash(), hash);
    assert_eq!(story.apply_batch(batch(2, 1, "new life")), refused);
    assert_eq!(
        story.apply_batch(batch(1, 8, "old life")),
        BatchResult::Superseded
    );
    assert_eq!(story.topics(), ["new life", "seven"]);
}

#[test]
fn a_removed_member_takes_its_attachments_along_and_stays_silent() {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    story.claim(1, 1, "orders", None);
    story.event(2, Event::RemoveMember { member: 1 });
    assert!(story.producers("orders").unwrap().is_empty());
    assert_eq!(
        story.apply(1, vec![attach(session(2), "h1", 0)]),
        BatchResult::Superseded
    );
    assert_eq!(story.db.last_member(), Some(2));
    assert_eq!(story.db.totals().attachments, 0);
}

#[test]
fn the_newest_session_is_the_one_shown() {
    let mut story = Story::default();
    story.event(1, attach(session(1), "h1", 2_000));
    story.event(2, attach(session(2), "h1", 1_000));
    story.claim(2, 2, "orders", None);
    let mut found = story.db.producers("orders", LIFETIMES).unwrap();
    assert_eq!(found.next().unwrap().remote_address, "h1:50001");
}

#[test]
fn producer_numbers_are_reused() {
    let mut story = Story::default();
    for round in 0..3 {
        story.attach(1, 10 * round + 1, "h1");
        story.attach(1, 10 * round + 2, "h2");
        story.detach(1, 10 * round + 1);
        story.attach(1, 10 * round + 3, "h3");
        story.detach(1, 10 * round + 2);
        story.detach(1, 10 * round + 3);
    }
    let only_the_member_row_is_left = story.rows.len();
    assert_eq!(only_the_member_row_is_left, 1);
}

/// An nsqd with more topics than one log entry takes away.
fn story_of_a_large_nsqd() -> Story {
    let mut story = Story::default();
    story.attach(1, 1, "h1");
    let claim = |number: u32| Event::Claim {
        session: session(1),
        topic: format!("t{number:05}"),
        channel: None,
    };
    story.apply(1, (0..20_000).map(claim).collect());
    story
}

#[test]
fn a_large_nsqd_is_hidden_at_once_and_goes_bit_by_bit() {
    let mut story = story_of_a_large_nsqd();
    story.detach(1, 1);
    assert!(story.nodes().is_empty());
    assert_eq!(story.producers("t19999"), Some(vec![]));
    assert!(story.db.needs_sweep());
    let left = story.db.totals().claims;
    assert!((1..20_000).contains(&left), "{left}");
    story.event(2, Event::Sweep);
    assert!(!story.db.needs_sweep());
    let totals = story.db.totals();
    assert_eq!((totals.claims, totals.producers), (0, 0));
    assert_eq!(totals.topics, 20_000);
    story.event(2, Event::Sweep);
}

#[test]
fn a_large_nsqd_that_comes_back_keeps_what_has_not_gone_yet() {
    let mut story = story_of_a_large_nsqd();
    story.event(2, Event::RemoveMember { member: 1 });
    assert!(story.nodes().is_empty());
    assert!(story.db.needs_sweep());
    let mut story = story_of_a_large_nsqd();
    story.detach(1, 1);
    story.attach(1, 2, "h1");
    assert!(!story.db.needs_sweep());
    assert_eq!(story.producers("t19999"), Some(vec!["h1"]));
    assert_eq!(story.producers("t00000"), Some(vec![]));
    story.detach(1, 2);
    assert_eq!(story.db.totals().producers, 0);
}
