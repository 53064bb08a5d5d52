//! Tests the registry's rules, each as a short story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

use std::collections::BTreeMap;

use raftlookupd_storage::event::{BatchResult, Event, MemberBatch, Proposal, Refusal};
use raftlookupd_storage::registration::{MemberId, PeerInfo, ProducerId};
use raftlookupd_storage::registration_db::{
    Applying, Change, Lifetimes, Note, Recorded, RegistrationDb,
};

const LIFETIMES: Lifetimes = Lifetimes {
    now: 100_000,
    tombstone: 45_000,
    away: 300_000,
};

/// A registry, its members' sequence numbers, and the time.
struct Story {
    db: RegistrationDb,
    sequences: BTreeMap<MemberId, (u64, u64)>,
    now: u64,
}

impl Default for Story {
    fn default() -> Self {
        Story {
            db: RegistrationDb::new(),
            sequences: BTreeMap::new(),
            now: LIFETIMES.now,
        }
    }
}

impl Story {
    fn batch(&mut self, member: MemberId, events: Vec<Event>) -> MemberBatch {
        let (incarnation, sequence) = self.sequences.entry(member).or_insert((1, 0));
        *sequence += 1;
        MemberBatch {
            member,
            incarnation: *incarnation,
            sequence: *sequence,
            at: self.now,
            events,
        }
    }

    fn apply(&mut self, member: MemberId, events: Vec<Event>) -> BatchResult {
        let batch = self.batch(member, events);
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
        if self.db.totals().claims < 1_000 {
            self.a_restart_loads_the_same();
        }
        applied.results
    }

    fn own(&mut self, event: Event) {
        self.propose(&Proposal {
            own: vec![event],
            ..Proposal::default()
        });
    }

    fn a_restart_loads_the_same(&self) {
        let rows = self.db.rows().map(|row| Ok((row.key(), row.value()?)));
        let loaded = RegistrationDb::from_rows(rows).unwrap();
        assert_eq!(loaded.state_hash(), self.db.state_hash());
        assert_eq!(loaded.totals(), self.db.totals());
    }

    /// Applies one event, which must not be refused.
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

    fn attach(&mut self, member: MemberId, host: &str) {
        let at = self.now;
        self.event(member, attach(host, at));
    }

    fn claim(&mut self, member: MemberId, host: &str, topic: &str, channel: Option<&str>) {
        self.event(member, claim(host, topic, channel));
    }

    fn release(&mut self, member: MemberId, host: &str, topic: &str, channel: Option<&str>) {
        self.event(
            member,
            Event::Release {
                producer: producer(host),
                topic: topic.into(),
                channel: channel.map(Into::into),
            },
        );
    }

    fn detach(&mut self, member: MemberId, host: &str) {
        let at = self.now;
        let producer = producer(host);
        self.event(member, Event::Detach { producer, at });
    }

    /// Starts a new incarnation of the member, with an empty batch.
    fn restart(&mut self, member: MemberId) {
        let (incarnation, sequence) = self.sequences.entry(member).or_insert((1, 0));
        (*incarnation, *sequence) = (*incarnation + 1, 0);
        self.apply(member, Vec::new());
    }

    fn away(&mut self, member: MemberId, last_heard: u64) {
        let at = self.now;
        self.own(Event::Away {
            member,
            last_heard,
            at,
        });
    }

    fn expire_all(&mut self) {
        let (found, _) = self.db.expirable(self.now, None, 1_000);
        for (producer, ended) in found {
            self.own(Event::Expire { producer, ended });
        }
        let (names, _) = self.db.expirable_names(None, 1_000);
        for found in names {
            self.own(Event::ExpireName {
                producer: found.producer,
                topic: found.name.0.to_string(),
                channel: found.name.1.map(|channel| channel.to_string()),
                released: found.released,
            });
        }
    }

    fn sweep(&mut self) -> usize {
        let mut sweeps = 0;
        while self.db.needs_sweep() {
            self.own(Event::Sweep);
            sweeps += 1;
        }
        self.a_restart_loads_the_same();
        sweeps
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
        let hosts = found.map(|view| view.id.broadcast_address.as_str());
        Some(hosts.collect())
    }

    fn nodes(&self) -> Vec<(&str, Vec<(&str, bool)>)> {
        let nodes = self.db.nodes(LIFETIMES);
        nodes
            .map(|node| (node.producer.id.broadcast_address.as_str(), node.topics))
            .collect()
    }

    fn is_recorded(
        &self,
        member: MemberId,
        host: &str,
        topic: &str,
        channel: Option<&str>,
    ) -> bool {
        self.db.is_recorded(member, &producer(host), topic, channel)
    }
}

fn producer(host: &str) -> ProducerId {
    ProducerId {
        broadcast_address: host.into(),
        tcp_port: 4150,
    }
}

fn attach(host: &str, at: u64) -> Event {
    Event::Attach {
        producer: producer(host),
        remote_address: format!("{host}:{at}"),
        info: PeerInfo {
            hostname: host.into(),
            http_port: 4151,
            version: "1.3.0".into(),
            ..PeerInfo::default()
        },
        at,
    }
}

fn claim(host: &str, topic: &str, channel: Option<&str>) -> Event {
    Event::Claim {
        producer: producer(host),
        topic: topic.into(),
        channel: channel.map(Into::into),
    }
}

fn tombstone(topic: &str, node: &str, at: u64) -> Event {
    Event::Tombstone {
        topic: topic.into(),
        node: node.into(),
        at,
    }
}

fn delete_channel(topic: &str, channel: &str) -> Event {
    Event::DeleteChannel {
        topic: topic.into(),
        channel: channel.into(),
    }
}

#[test]
fn a_channel_claim_also_claims_the_topic() {
    let mut story = Story::default();
    story.attach(1, "h1");
    story.claim(1, "h1", "orders", Some("billing"));
    assert_eq!(story.topics(), ["orders"]);
    assert_eq!(story.channels("orders").unwrap(), ["billing"]);
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(story.nodes(), [("h1", vec![("orders", false)])]);
    assert_eq!(story.db.totals().claims, 2);
    assert_eq!(story.channels("unknown"), None);
    assert_eq!(story.producers("unknown"), None);
}

#[test]
fn nothing_is_claimed_without_an_attachment() {
    let mut story = Story::default();
    let claimed = claim("h1", "orders", None);
    assert_eq!(story.refused(1, claimed.clone()), Refusal::NotAttached);
    story.attach(2, "h1");
    assert_eq!(story.refused(1, claimed), Refusal::NotAttached);
    assert!(story.topics().is_empty());
}

#[test]
fn names_stay_when_the_last_claim_goes() {
    let mut story = Story::default();
    story.attach(1, "h1");
    story.claim(1, "h1", "orders", Some("billing"));
    story.release(1, "h1", "orders", Some("billing"));
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(story.channels("orders").unwrap(), ["billing"]);
    story.release(1, "h1", "orders", None);
    assert!(story.producers("orders").unwrap().is_empty());
    story.claim(1, "h1", "orders", Some("billing"));
    story.detach(1, "h1");
    assert_eq!(story.topics(), ["orders"]);
    assert_eq!(story.channels("orders").unwrap(), ["billing"]);
    assert!(story.nodes().is_empty());
    assert_eq!(story.db.totals().claims, 0);
}

#[test]
fn releasing_a_topic_releases_its_channels() {
    let mut story = Story::default();
    story.attach(1, "h1");
    story.claim(1, "h1", "orders", Some("a"));
    story.claim(1, "h1", "orders", Some("b#ephemeral"));
    story.release(1, "h1", "orders", None);
    assert_eq!(story.channels("orders").unwrap(), ["a"]);
    assert_eq!(story.db.totals().claims, 0);
}

#[test]
fn ephemeral_names_go_with_their_last_claim() {
    for last in ["release", "detach", "remove member"] {
        let mut story = Story::default();
        for host in ["h1", "h2"] {
            story.attach(1, host);
            story.claim(1, host, "t#ephemeral", Some("c"));
            story.claim(1, host, "orders", Some("c#ephemeral"));
        }
        story.detach(1, "h1");
        assert_eq!(story.topics(), ["orders", "t#ephemeral"], "{last}");
        assert_eq!(story.channels("orders").unwrap(), ["c#ephemeral"], "{last}");
        match last {
            "release" => {
                story.release(1, "h2", "t#ephemeral", None);
                story.release(1, "h2", "orders", Some("c#ephemeral"));
            }
            "detach" => story.detach(1, "h2"),
            _ => story.own(Event::RemoveMember { member: 1 }),
        }
        assert_eq!(story.topics(), ["orders"], "{last}");
        assert!(story.channels("orders").unwrap().is_empty(), "{last}");
    }
}

#[test]
fn releasing_an_unclaimed_ephemeral_name_removes_it() {
    let mut story = Story::default();
    story.attach(1, "h1");
    let (topic, channel) = ("orders".to_string(), "c#ephemeral".to_string());
    story.event(1, Event::CreateChannel { topic, channel });
    let matters = |story: &Story, topic, channel| {
        story
            .db
            .release_matters(1, &producer("h1"), topic, Some(channel))
    };
    assert!(matters(&story, "orders", "c#ephemeral"));
    story.release(1, "h1", "orders", Some("c#ephemeral"));
    assert!(story.channels("orders").unwrap().is_empty());
    assert!(!matters(&story, "orders", "c#ephemeral"));
    story.release(1, "h1", "unknown", Some("c"));
    story.release(1, "h1", "unknown", None);
    assert_eq!(story.topics(), ["orders"]);
}

#[test]
fn an_nsqd_at_three_members_is_one_producer() {
    let mut story = Story::default();
    for member in 1..=3 {
        story.attach(member, "h1");
        story.claim(member, "h1", "orders", Some("billing"));
    }
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(story.nodes().len(), 1);
    story.detach(1, "h1");
    story.detach(3, "h1");
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    story.detach(2, "h1");
    assert!(story.producers("orders").unwrap().is_empty());
    assert_eq!(story.db.totals().producers, 0);
}

#[test]
fn a_new_incarnation_keeps_the_claims_of_the_one_before() {
    let mut story = Story::default();
    story.attach(1, "h1");
    story.claim(1, "h1", "orders", Some("billing"));
    story.restart(1);
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(story.db.inherited(1, 2), 1);
    story.attach(1, "h1");
    let recorded = Recorded {
        incarnation: 2,
        active: true,
    };
    assert_eq!(story.db.recorded(1, &producer("h1")), Some(recorded));
    assert!(story.is_recorded(1, "h1", "orders", Some("billing")));
    assert_eq!(story.db.inherited(1, 2), 0);
}

#[test]
fn what_the_leader_noticed_comes_after_the_batches() {
    let mut story = Story::default();
    let batch = story.batch(1, vec![attach("h1", 0), claim("h1", "orders", None)]);
    let proposal = Proposal {
        batches: vec![batch],
        own: vec![Event::Away {
            member: 1,
            last_heard: 90_000,
            at: 93_000,
        }],
    };
    let results = story.propose(&proposal);
    assert_eq!(results.len(), 1, "nobody waits for the leader's own");
    assert!(story.db.member(1).unwrap().away.is_some());
    // A repeated batch has no effect, so it does not end the absence either.
    story.propose(&proposal);
    assert!(story.db.member(1).unwrap().away.is_some());
    story.apply(1, Vec::new());
    assert!(story.db.member(1).unwrap().away.is_none());
}

#[test]
fn an_inactive_attachment_is_hidden() {
    let set_active = |active| Event::SetActive {
        producer: producer("h1"),
        active,
    };
    let mut story = Story::default();
    story.attach(1, "h1");
    story.claim(1, "h1", "orders", None);
    story.event(1, set_active(false));
    assert!(story.producers("orders").unwrap().is_empty());
    assert!(story.nodes().is_empty());
    assert_eq!(story.db.debug().count(), 2, "debug shows the inactive");
    story.event(1, set_active(true));
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    assert_eq!(story.nodes().len(), 1);
}

#[test]
fn a_member_that_is_away_is_hidden_when_it_is_away_for_too_long() {
    let mut story = Story::default();
    story.attach(1, "h1");
    story.claim(1, "h1", "orders", None);
    story.away(1, story.now - 3_000);
    let since = story.now;
    let last = since + LIFETIMES.away;
    assert_eq!(story.producers_at("orders", last).unwrap(), ["h1"]);
    assert!(story.producers_at("orders", last + 1).unwrap().is_empty());
    // Recorded again, it counts from the first start.
    story.now += 10_000;
    story.away(1, since);
    assert!(story.producers_at("orders", last + 1).unwrap().is_empty());
    story.apply(1, Vec::new());
    assert_eq!(story.producers_at("orders", last + 1).unwrap(), ["h1"]);
}

#[test]
fn what_is_given_up_at_a_present_member_goes_at_an_away_one() {
    let mut story = Story::default();
    for member in 1..=2 {
        story.attach(member, "h1");
        story.claim(member, "h1", "orders", Some("c#ephemeral"));
    }
    story.attach(2, "h2");
    story.claim(2, "h2", "orders", Some("own#ephemeral"));
    story.away(2, story.now - 3_000);
    story.release(1, "h1", "orders", Some("c#ephemeral"));
    assert_eq!(story.channels("orders").unwrap(), ["own#ephemeral"]);
    story.release(1, "h1", "orders", None);
    assert!(!story.is_recorded(2, "h1", "orders", None));
    assert_eq!(story.producers("orders").unwrap(), ["h2"]);
    // Also by a session that never claimed it.
    let matters = |story: &Story| {
        story
            .db
            .release_matters(1, &producer("h2"), "orders", Some("own#ephemeral"))
    };
    assert!(matters(&story));
    story.release(1, "h2", "orders", Some("own#ephemeral"));
    assert!(story.channels("orders").unwrap().is_empty());
    assert!(!matters(&story));
}

#[test]
fn what_a_present_member_holds_is_not_given_up_by_another() {
    let mut story = Story::default();
    for member in 1..=3 {
        story.attach(member, "h1");
        story.claim(member, "h1", "orders", None);
    }
    story.away(2, story.now - 3_000);
    story.release(1, "h1", "orders", None);
    assert!(story.is_recorded(2, "h1", "orders", None));
    story.release(3, "h1", "orders", None);
    assert!(!story.is_recorded(2, "h1", "orders", None));
    assert!(story.producers("orders").unwrap().is_empty());
}

#[test]
fn a_release_is_remembered_for_a_member_that_is_found_away_later() {
    for found_by in ["away", "restart"] {
        let mut story = Story::default();
        for member in 1..=2 {
            story.attach(member, "h1");
            story.claim(member, "h1", "t#ephemeral", Some("c"));
        }
        let died = story.now;
        story.now += 50;
        story.release(1, "h1", "t#ephemeral", None);
        story.expire_all();
        assert_eq!(story.topics(), ["t#ephemeral"], "member 2 may be alive");
        story.now += 3_000;
        match found_by {
            "away" => story.away(2, died),
            _ => story.restart(2),
        }
        story.expire_all();
        assert!(story.topics().is_empty(), "{found_by}");
    }
}

#[test]
fn a_release_of_long_ago_says_nothing_about_a_member_that_lived_on() {
    let mut story = Story::default();
    for member in 1..=2 {
        story.attach(member, "h1");
        story.claim(member, "h1", "orders", None);
    }
    story.release(1, "h1", "orders", None);
    story.now += 60_000;
    story.away(2, story.now - 3_000);
    story.expire_all();
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
    // Claiming the name again forgets its release.
    story.apply(2, Vec::new());
    story.claim(1, "h1", "orders", None);
    story.away(2, 0);
    story.away(1, 0);
    story.expire_all();
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
}

#[test]
fn the_end_at_a_present_member_is_the_end_at_an_away_one() {
    for found_away in ["before", "afterwards"] {
        let mut story = Story::default();
        for member in 1..=2 {
            story.attach(member, "h1");
            story.claim(member, "h1", "orders", None);
        }
        let died = story.now;
        if found_away == "before" {
            story.now += 3_000;
            story.away(2, died);
        }
        story.detach(1, "h1");
        if found_away == "afterwards" {
            story.now += 3_000;
            story.away(2, died);
        }
        assert_eq!(story.producers("orders").unwrap(), ["h1"], "for now");
        story.expire_all();
        assert!(
            story.producers("orders").unwrap().is_empty(),
            "{found_away}"
        );
        assert_eq!(story.db.totals().producers, 0);
    }
}

#[test]
fn an_end_does_not_count_when_the_nsqd_attaches_or_the_member_lived_on() {
    let story_of = |last_heard: u64| {
        let mut story = Story::default();
        for member in 1..=3 {
            story.attach(member, "h1");
        }
        story.claim(2, "h1", "orders", None);
        story.detach(3, "h1");
        story.detach(1, "h1");
        story.now += 60_000;
        story.away(2, last_heard);
        story
    };
    let mut alive_longer = story_of(LIFETIMES.now + 30_000);
    alive_longer.expire_all();
    assert_eq!(alive_longer.producers("orders").unwrap(), ["h1"]);
    let mut comes_back = story_of(LIFETIMES.now);
    comes_back.attach(3, "h1");
    comes_back.expire_all();
    assert_eq!(comes_back.producers("orders").unwrap(), ["h1"]);
    let mut gone = story_of(LIFETIMES.now);
    gone.expire_all();
    assert!(gone.producers("orders").unwrap().is_empty());
}

#[test]
fn an_inherited_attachment_that_is_let_go_says_nothing_about_others() {
    let mut story = Story::default();
    for member in 1..=2 {
        story.attach(member, "h1");
        story.claim(member, "h1", "orders", None);
    }
    story.restart(1);
    story.detach(1, "h1");
    story.away(2, story.now);
    story.now += 60_000;
    story.expire_all();
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
}

#[test]
fn a_crash_loop_keeps_no_ghosts() {
    let mut story = Story::default();
    story.attach(1, "ghost");
    let first_start = story.now + 1_000;
    for _ in 0..50 {
        story.now += 1_000;
        story.restart(1);
    }
    let abandoned = |story: &Story, incarnation, until| {
        let found = story.db.abandoned(1, incarnation, until, 10);
        found.len()
    };
    assert_eq!(abandoned(&story, 51, first_start - 1), 0);
    assert_eq!(abandoned(&story, 51, first_start), 1);
    // An attachment recorded in between counts from the start after that.
    story.attach(1, "late");
    story.now += 1_000;
    story.restart(1);
    assert_eq!(abandoned(&story, 52, first_start), 1);
    assert_eq!(abandoned(&story, 52, story.now), 2);
    let starts = story.db.rows().filter(|row| row.key()[0] == b's').count();
    assert_eq!(starts, 2, "the first after each incarnation that is named");
}

#[test]
fn starts_are_bounded() {
    let mut story = Story::default();
    for life in 0..400 {
        story.attach(1, &format!("h{life}"));
        story.now += 1_000;
        story.restart(1);
    }
    let starts = story.db.rows().filter(|row| row.key()[0] == b's').count();
    assert!(starts <= 257, "{starts}");
    assert_eq!(story.db.abandoned(1, 401, story.now, 1_000).len(), 400);
}

#[test]
fn deleted_names_come_back_only_by_a_new_claim() {
    let mut story = Story::default();
    story.attach(1, "h1");
    story.claim(1, "h1", "orders", Some("billing"));
    story.event(1, delete_channel("orders", "billing"));
    assert!(story.channels("orders").unwrap().is_empty());
    let topic = "orders".to_string();
    story.event(1, Event::DeleteTopic { topic });
    assert!(story.topics().is_empty());
    assert_eq!(story.nodes(), [("h1", vec![])]);
    assert!(!story.is_recorded(1, "h1", "orders", None));
    story.event(1, Event::DeleteTopic { topic: "*".into() });
    story.claim(1, "h1", "orders", Some("billing"));
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
}

#[test]
fn a_channel_can_be_deleted_at_every_member_once() {
    let mut story = Story::default();
    let (topic, channel) = ("orders".to_string(), "billing".to_string());
    story.event(1, Event::CreateChannel { topic, channel });
    let delete = || delete_channel("orders", "billing");
    story.event(1, delete());
    story.event(2, delete());
    assert_eq!(story.refused(2, delete()), Refusal::ChannelNotFound);
    assert_eq!(story.refused(1, delete()), Refusal::ChannelNotFound);
    story.now += 15_000;
    story.event(3, delete());
    story.now += 1;
    assert_eq!(story.refused(4, delete()), Refusal::ChannelNotFound);
    let unknown = delete_channel("orders", "unknown");
    assert_eq!(story.refused(1, unknown), Refusal::ChannelNotFound);
}

#[test]
fn deleted_channels_are_forgotten() {
    let mut story = Story::default();
    for number in 0..5_000 {
        let (topic, channel) = ("orders".to_string(), format!("c{number}"));
        let create = Event::CreateChannel { topic, channel };
        let delete = delete_channel("orders", &format!("c{number}"));
        story
            .db
            .apply(&Proposal {
                batches: vec![MemberBatch {
                    member: 1,
                    incarnation: 1,
                    sequence: number + 1,
                    at: LIFETIMES.now,
                    events: vec![create, delete],
                }],
                ..Proposal::default()
            })
            .unwrap();
    }
    let remembered = |story: &Story| story.db.rows().filter(|row| row.key()[0] == b'd').count();
    assert!(
        (1..5_000).contains(&remembered(&story)),
        "{}",
        remembered(&story)
    );
    story.sequences.insert(1, (1, 5_000));
    story.now += 60_000;
    for number in 0..300 {
        let (topic, channel) = ("orders".to_string(), format!("d{number}"));
        story.event(1, Event::CreateChannel { topic, channel });
        story.event(1, delete_channel("orders", &format!("d{number}")));
    }
    assert_eq!(remembered(&story), 300);
}

#[test]
fn a_tombstone_hides_one_producer_of_one_topic_for_a_while() {
    let mut story = Story::default();
    for host in ["h1", "h2"] {
        story.attach(1, host);
        story.claim(1, host, "orders", None);
        story.claim(1, host, "mails", None);
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
        story.attach(member, "h1");
        story.claim(member, "h1", "orders", None);
    }
    story.event(1, tombstone("orders", "h1:4151", 100_000));
    story.claim(1, "h1", "orders", None);
    story.release(1, "h1", "orders", None);
    assert!(story.producers("orders").unwrap().is_empty());
    story.claim(1, "h1", "orders", None);
    assert!(story.producers("orders").unwrap().is_empty());
    story.release(1, "h1", "orders", None);
    story.release(2, "h1", "orders", None);
    story.claim(1, "h1", "orders", None);
    assert_eq!(story.producers("orders").unwrap(), ["h1"]);
}

#[test]
fn a_batch_is_applied_once() {
    let mut story = Story::default();
    let batch = |incarnation, sequence, topic: &str| MemberBatch {
        member: 1,
        incarnation,
        sequence,
        at: LIFETIMES.now,
        events: vec![
            delete_channel("orders", "none"),
            Event::CreateTopic {
                topic: topic.into(),
            },
        ],
    };
    let refused = BatchResult::Applied {
        refused: vec![(0, Refusal::ChannelNotFound)],
    };
    assert_eq!(story.apply_batch(batch(1, 1, "one")), refused);
    assert_eq!(story.apply_batch(batch(1, 2, "two")), refused);
    let hash = story.db.state_hash();
    assert_eq!(story.apply_batch(batch(1, 2, "repeated")), refused);
    assert_eq!(
        story.apply_batch(batch(1, 1, "late")),
        BatchResult::Superseded
    );
    assert_eq!(story.db.state_hash(), hash);
    assert_eq!(story.apply_batch(batch(2, 1, "new incarnation")), refused);
    assert_eq!(
        story.apply_batch(batch(1, 3, "old incarnation")),
        BatchResult::Superseded
    );
    assert_eq!(story.topics(), ["new incarnation", "one", "two"]);
}

#[test]
fn a_removed_member_takes_its_attachments_along_and_stays_silent() {
    let mut story = Story::default();
    story.attach(1, "h1");
    story.claim(1, "h1", "orders", None);
    story.own(Event::RemoveMember { member: 1 });
    assert!(story.producers("orders").unwrap().is_empty());
    assert_eq!(
        story.apply(1, vec![attach("h1", 0)]),
        BatchResult::Superseded
    );
    story.away(1, 0);
    assert_eq!(story.db.member(1).unwrap().away, None);
    assert_eq!(story.db.last_member(), Some(1));
    assert_eq!(story.db.present_members().count(), 0);
    assert_eq!(story.db.totals().attachments, 0);
}

#[test]
fn the_newest_session_is_the_one_shown() {
    let mut story = Story::default();
    story.event(1, attach("h1", 2_000));
    story.event(2, attach("h1", 1_000));
    story.claim(2, "h1", "orders", None);
    let mut found = story.db.producers("orders", LIFETIMES).unwrap();
    assert_eq!(found.next().unwrap().remote_address, "h1:2000");
}

#[test]
fn numbers_are_reused() {
    let mut story = Story::default();
    for _ in 0..3 {
        story.attach(1, "h1");
        story.attach(1, "h2");
        story.detach(1, "h1");
        story.attach(1, "h3");
        story.detach(1, "h2");
        story.detach(1, "h3");
    }
    let only_the_member_row_is_left = story.db.rows().count();
    assert_eq!(only_the_member_row_is_left, 1);
}

/// An nsqd with this many claims.
fn story_of_a_large_nsqd(claims: Vec<Event>) -> Story {
    let mut story = Story::default();
    story.attach(1, "h1");
    for some in claims.chunks(4_096) {
        story.apply(1, some.to_vec());
    }
    story
}

fn topics_of(host: &str, count: usize) -> Vec<Event> {
    let topic = |number: usize| claim(host, &format!("t{number:05}"), None);
    (0..count).map(topic).collect()
}

fn channels_of(host: &str, count: usize, suffix: &str) -> Vec<Event> {
    let channel = |number: usize| format!("c{number:06}{suffix}");
    let claim = |number: usize| claim(host, "large", Some(&channel(number)));
    (0..count).map(claim).collect()
}

/// The steps of one event, and what they write.
fn steps_of(story: &mut Story, event: Event) -> (usize, usize) {
    let batch = story.batch(1, vec![event]);
    let proposal = Proposal {
        batches: vec![batch],
        ..Proposal::default()
    };
    let mut applying = Applying::new(&proposal, None);
    let (mut steps, mut changes) = (0, 0);
    loop {
        let step = applying.step(&mut story.db).unwrap();
        (steps, changes) = (steps + 1, changes + step.changes.len());
        if step.done {
            return (steps, changes);
        }
    }
}

#[test]
fn a_large_nsqd_is_hidden_at_once_and_goes_step_by_step() {
    let mut story = story_of_a_large_nsqd(topics_of("h1", 20_000));
    story.detach(1, "h1");
    assert!(story.nodes().is_empty());
    assert_eq!(story.producers("t19999"), Some(vec![]));
    let left = story.db.totals().claims;
    assert!((1..20_000).contains(&left), "{left}");
    assert!((5..30).contains(&story.sweep()));
    let totals = story.db.totals();
    assert_eq!((totals.claims, totals.producers), (0, 0));
    assert_eq!(totals.topics, 20_000);
}

#[test]
fn a_large_nsqd_that_comes_back_gets_nothing_of_what_is_left() {
    let mut story = story_of_a_large_nsqd(topics_of("h1", 20_000));
    story.event(1, tombstone("t19999", "h1:4151", LIFETIMES.now));
    story.detach(1, "h1");
    story.attach(1, "h1");
    assert_eq!(story.nodes(), [("h1", vec![])]);
    assert_eq!(story.producers("t19999"), Some(vec![]));
    story.claim(1, "h1", "t19999", None);
    assert_eq!(story.producers("t19999"), Some(vec!["h1"]));
    story.sweep();
    assert_eq!(story.nodes(), [("h1", vec![("t19999", false)])]);
    assert_eq!(story.db.totals().claims, 1);
}

#[test]
fn a_removed_member_with_a_large_nsqd_is_hidden_at_once() {
    let mut story = story_of_a_large_nsqd(topics_of("h1", 20_000));
    story.own(Event::RemoveMember { member: 1 });
    assert!(story.nodes().is_empty());
    assert!(story.db.needs_sweep());
    story.sweep();
    assert_eq!(story.db.totals().claims, 0);
}

#[test]
fn the_channels_of_a_topic_go_at_once() {
    let release = Event::Release {
        producer: producer("h1"),
        topic: "large".into(),
        channel: None,
    };
    let detach = Event::Detach {
        producer: producer("h1"),
        at: 0,
    };
    let delete = Event::DeleteTopic {
        topic: "large".into(),
    };
    for event in [release, detach, delete] {
        let mut story = story_of_a_large_nsqd(channels_of("h1", 50_000, ""));
        let (steps, changes) = steps_of(&mut story, event.clone());
        assert!(steps <= 2 && changes <= 10, "{event:?}: {steps}, {changes}");
        assert!(!story.db.needs_sweep());
        assert_eq!(story.db.totals().claims, 0);
        story.a_restart_loads_the_same();
    }
}

#[test]
fn many_ephemeral_channels_of_a_topic_go_step_by_step() {
    let mut story = story_of_a_large_nsqd(channels_of("h1", 20_000, "#ephemeral"));
    story.release(1, "h1", "large", None);
    assert!(story.db.needs_sweep());
    assert_eq!(
        story.producers("large"),
        Some(vec![]),
        "it no longer counts"
    );
    assert!(story.nodes()[0].1.is_empty());
    assert!(!story.is_recorded(1, "h1", "large", None));
    let again = claim("h1", "large", None);
    assert_eq!(story.refused(1, again.clone()), Refusal::Releasing);
    assert!((5..30).contains(&story.sweep()));
    assert!(story.channels("large").unwrap().is_empty());
    story.event(1, again);
    assert_eq!(story.producers("large"), Some(vec!["h1"]));
}

#[test]
fn a_member_is_told_what_concerns_it() {
    let mut story = Story::default();
    for member in 1..=2 {
        story.attach(member, "h1");
        story.claim(member, "h1", "orders", Some("billing"));
    }
    story.away(2, story.now);
    let release = Event::Release {
        producer: producer("h1"),
        topic: "orders".into(),
        channel: Some("billing".into()),
    };
    let batch = story.batch(
        1,
        vec![
            release,
            delete_channel("orders", "billing"),
            delete_channel("x", "y"),
        ],
    );
    let proposal = Proposal {
        batches: vec![batch],
        ..Proposal::default()
    };
    let mut notes = Vec::new();
    let mut applying = Applying::new(&proposal, Some(2));
    loop {
        let step = applying.step(&mut story.db).unwrap();
        let of_topic = |change: &Change| matches!(change, Change::Topic { .. });
        assert!(step.changes.iter().any(of_topic));
        notes.extend(step.notes);
        if step.done {
            break;
        }
    }
    let name = || ("orders".into(), Some("billing".into()));
    let taken = Note::Taken {
        producer: producer("h1"),
        name: Some(name()),
    };
    let deleted = Note::Deleted {
        topic: name().0,
        channel: name().1,
        holders: Vec::new(),
    };
    assert_eq!(
        notes,
        [taken, deleted],
        "its own batches it would be told, too"
    );
    let empty = story.batch(2, Vec::new());
    let proposal = Proposal {
        batches: vec![empty],
        ..Proposal::default()
    };
    let step = Applying::new(&proposal, Some(2))
        .step(&mut story.db)
        .unwrap();
    let [
        Note::Batch {
            incarnation: 1,
            sequence: 3,
            ..
        },
    ] = step.notes.as_slice()
    else {
        panic!("{:?}", step.notes);
    };
}
