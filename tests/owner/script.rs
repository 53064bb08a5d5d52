//! Stories of sessions that can be read: `scripts/*.txt`.
//!
//! `## ` begins a story: three members that run, an empty registry, a quorum. `# ` is a comment.
//!
//! | line | |
//! |---|---|
//! | `s1 is h1 at 1` | a session of nsqd h1 at member 1 identifies itself |
//! | `s1 REGISTER t c`, `s1 UNREGISTER t`, `s1 PING`, `s1 ends` | what it does |
//! | `s1 REGISTERs 3000 of t` | channels c0#ephemeral, c1#ephemeral ... of a topic |
//! | `s1 < OK` | the answer to its last command; also `E_UNAVAILABLE`, `waits` |
//! | `s1 waits in vain` | its last command takes too long |
//! | `s1 is closed: PresumedDead` | by its member, and why; `s1 is open` |
//! | `settle` | everything is proposed, committed, applied and confirmed, until nothing is left |
//! | `1 proposes: attach h1, claim h1 t/c` | the next batch of member 1, which is on its way then; `nothing` |
//! | `1 commits`, `1 applies` | the batch on its way; all that is committed |
//! | `1 confirms` | the barriers at member 1 have passed |
//! | `log: delete t/c` | committed, applied nowhere yet; also `delete t`, `create t`, `create t/c` |
//! | `no quorum`, `quorum` | |
//! | `1 stops`, `1 starts`, `1 gets a snapshot` | |
//! | `2 is cut off`, `2 is reached again` | the other members reach it no longer, or again |
//! | `2 is away`, `2 is not away` | what is recorded of it |
//! | `limits 1000 2000` | at the beginning: bytes that a session, and all together, may have undecided |
//! | `after 10s` | time passes, and everything settles each second; the leader looks after members |
//! | `t: h1 h2` | the nsqds that lookups list for a topic; `nobody`, `not listed` |
//! | `t has c d` | its channels; `nothing` |
//! | `1 records h1: t t/c` | what is recorded of an nsqd at a member; `nothing` |
//! | `mark`, `2 more entries` | how much the log has grown since |

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use raftlookupd::nsqd::owner::{
    CloseReason, Effect, Now, Reply, SessionId, Settings, Ticket, Verdict,
};
use raftlookupd_raft::owner::Room;
use raftlookupd_raft::storage::event::{Event, MemberBatch, Proposal};
use raftlookupd_raft::storage::registration::{MemberId, PeerInfo, ProducerId};
use raftlookupd_raft::storage::registration_db::{Lifetimes, Name};

use crate::leader::{Leading, expired};
use crate::log::{Log, load, rows_of};
use crate::member::{Member, Stage};
use crate::text;

const TIMEOUT: Duration = Duration::from_secs(60);

const ROOM: Room = Room {
    first: 0,
    events: 4096,
    bytes: 128 * 1024,
};

/// Who deletes and creates over HTTP.
const OPERATOR: MemberId = 9;

/// The cluster's time when a story begins.
const BEGIN: u64 = 1_000_000;

/// Rounds in which a story has to come to rest.
const ROUNDS: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Waits(Ticket),
    Barrier(Ticket),
    Given(Verdict),
}

struct Client {
    member: MemberId,
    id: SessionId,
    answer: Answer,
    closed: Option<CloseReason>,
}

struct Story {
    millis: u64,
    members: BTreeMap<MemberId, Member>,
    stopped: BTreeMap<MemberId, Member>,
    clients: BTreeMap<String, Client>,
    log: Log,
    leading: Leading,
    quorum: bool,
    /// Members that the others do not reach.
    cut: BTreeSet<MemberId>,
    settings: Settings,
    operations: u64,
    mark: usize,
}

/// Plays all stories of a file.
pub fn play(file: &str, stories: &str) {
    for story in stories.split("\n## ").skip(1) {
        let (title, lines) = story.split_once('\n').expect("a story has lines");
        let mut played = Story::new(settings());
        for line in lines.lines().map(str::trim) {
            if line.is_empty() || line.starts_with("# ") {
                continue;
            }
            if let Err(reason) = played.line(line) {
                panic!("{file}: {title}: {line:?}: {reason}");
            }
        }
        for member in played.members.values() {
            let repairs = member.owner.counts(None).repairs;
            assert_eq!(repairs, 0, "{file}: {title}: the routine check repaired");
        }
    }
}

impl Story {
    fn new(settings: Settings) -> Self {
        let mut story = Story {
            cut: BTreeSet::new(),
            settings,
            millis: 0,
            members: BTreeMap::new(),
            stopped: BTreeMap::new(),
            clients: BTreeMap::new(),
            log: Log::default(),
            leading: Leading::new(0, None),
            quorum: true,
            operations: 0,
            mark: 0,
        };
        for id in 1..=3 {
            let mut member = Member::new(id, 1, settings);
            member.load(story.now(), load(&Vec::new()), 0);
            story.members.insert(id, member);
        }
        story.settle();
        story
    }

    fn now(&self) -> Now {
        Now {
            moment: Duration::from_millis(self.millis),
            clock: BEGIN + self.millis,
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["settle"] => self.settle(),
            ["mark"] => self.mark = self.log.len(),
            [count, "more", "entries"] => {
                let grown = self.log.len() - self.mark;
                return same(&grown.to_string(), count);
            }
            ["no", "quorum"] => self.quorum = false,
            ["quorum"] => self.quorum = true,
            ["after", time] => self.pass(time),
            ["log:", what @ ..] => self.operate(what),
            [member, "stops"] => self.stop(number(member)),
            [member, "starts"] => self.start(number(member)),
            [member, "gets", "a", "snapshot"] => self.snapshot(number(member)),
            [member, "applies"] => self.apply(number(member)),
            [member, "commits"] => self.commit(number(member)),
            [member, "confirms"] => self.confirm(number(member)),
            [member, "proposes:", expected @ ..] => {
                let proposed = self.propose(number(member));
                return same(&proposed, &expected.join(" "));
            }
            [member, "records", expected @ ..] => {
                let expected = expected.join(" ");
                let (host, names) = expected.split_once(": ").unwrap();
                return same(&self.recorded(number(member), host), names);
            }
            [topic, "has", channels @ ..] => {
                let found = self.log.registry.channels(topic);
                let found: Vec<&str> = found.into_iter().flatten().collect();
                return same(&or_nothing(&found), &channels.join(" "));
            }
            [client, "is", "closed:", reason] => {
                let closed = self.clients[*client].closed;
                let found = closed.map_or("open".into(), |reason| format!("{reason:?}"));
                return same(&found, reason);
            }
            [client, "is", "open"] => {
                let closed = self.clients[*client].closed;
                return closed.map_or(Ok(()), |reason| Err(format!("closed: {reason:?}")));
            }
            [member, "is", "cut", "off"] => drop(self.cut.insert(number(member))),
            [member, "is", "reached", "again"] => drop(self.cut.remove(&number(member))),
            [member, "is", "away"] => return self.is_away(number(member), true),
            [member, "is", "not", "away"] => return self.is_away(number(member), false),
            ["limits", session, total] => {
                *self = Story::new(Settings {
                    most_undecided: session.parse().unwrap(),
                    most_undecided_in_total: total.parse().unwrap(),
                    ..settings()
                });
            }
            [client, "is", host, "at", member] => self.identify(client, host, number(member)),
            [client, "<", "waits"] => {
                return match self.clients[*client].answer {
                    Answer::Given(verdict) => Err(format!("it is answered {verdict:?}")),
                    Answer::Waits(_) | Answer::Barrier(_) => Ok(()),
                };
            }
            [client, "<", expected] => {
                let found = match self.clients[*client].answer {
                    Answer::Given(Verdict::Done) => "OK",
                    Answer::Given(_) => "E_UNAVAILABLE",
                    Answer::Waits(_) | Answer::Barrier(_) => "waits",
                };
                return same(found, expected);
            }
            [client, "waits", "in", "vain"] => self.expire(client),
            [client, "REGISTERs", count, "of", topic] => {
                for number in 0..count.parse().unwrap() {
                    let channel = format!("c{number}#ephemeral");
                    self.command(client, "REGISTER", &[topic, &channel]);
                }
            }
            [client, command, rest @ ..] if !command.ends_with(':') && !client.ends_with(':') => {
                self.command(client, command, rest);
            }
            [topic, hosts @ ..] => {
                let topic = topic.strip_suffix(':').ok_or("what is this?")?;
                return same(&self.look_up(topic), &hosts.join(" "));
            }
            [] => {}
        }
        Ok(())
    }

    fn identify(&mut self, client: &str, host: &str, at: MemberId) {
        let (now, quorum) = (self.now(), self.can_commit(at));
        let member = self.members.get_mut(&at).unwrap();
        let remote = format!("10.0.0.1:{client}");
        let info = PeerInfo::default();
        let (id, reply) = member
            .owner
            .identify(now, producer(host), info, remote, quorum);
        let opened = Client {
            member: at,
            id,
            answer: answer(reply),
            closed: None,
        };
        self.clients.insert(client.into(), opened);
        self.heed(at);
    }

    fn can_commit(&self, member: MemberId) -> bool {
        self.quorum && !self.cut.contains(&member)
    }

    fn is_away(&self, member: MemberId, expected: bool) -> Result<(), String> {
        let row = self.log.registry.member(member);
        let is_away = row.is_some_and(|row| row.away.is_some());
        same(&is_away.to_string(), &expected.to_string())
    }

    fn command(&mut self, client: &str, command: &str, rest: &[&str]) {
        let now = self.now();
        let client = self.clients.get_mut(client).expect("it identified itself");
        let quorum = self.quorum && !self.cut.contains(&client.member);
        let member = self.members.get_mut(&client.member).unwrap();
        let (owner, db, id) = (&mut member.owner, member.db.as_ref(), client.id);
        let channel = rest.get(1).copied();
        let reply = match command {
            "REGISTER" => owner.register(now, id, rest[0], channel, db, quorum),
            "UNREGISTER" => owner.unregister(now, id, rest[0], channel, db, quorum),
            "PING" => owner.ping(now, id, quorum),
            "ends" => owner.close(now, id, quorum),
            other => panic!("{other:?} is no command"),
        };
        client.answer = answer(reply);
        let at = client.member;
        self.heed(at);
    }

    fn expire(&mut self, client: &str) {
        let client = self.clients.get_mut(client).unwrap();
        if let Answer::Waits(ticket) | Answer::Barrier(ticket) = client.answer {
            let member = self.members.get_mut(&client.member).unwrap();
            client.answer = Answer::Given(member.owner.expire(ticket));
            let at = client.member;
            self.heed(at);
        }
    }

    /// Does what the owner wants done besides.
    fn heed(&mut self, at: MemberId) {
        let Some(member) = self.members.get_mut(&at) else {
            return;
        };
        member.woken |= member.owner.has_work();
        for effect in member.owner.take_effects() {
            for client in self
                .clients
                .values_mut()
                .filter(|client| client.member == at)
            {
                match effect {
                    Effect::Answer(ticket, verdict) if client.answer == Answer::Waits(ticket) => {
                        client.answer = match verdict {
                            Verdict::Confirm => Answer::Barrier(ticket),
                            given => Answer::Given(given),
                        };
                    }
                    Effect::Close(id, reason) if client.id == id => client.closed = Some(reason),
                    _ => {}
                }
            }
        }
    }

    fn settle(&mut self) {
        let ids = self.members.keys().copied();
        let ids: Vec<MemberId> = ids.filter(|id| !self.cut.contains(id)).collect();
        for _ in 0..ROUNDS {
            let before = self.log.len();
            for id in &ids {
                self.apply(*id);
                if self.quorum {
                    self.members.get_mut(id).unwrap().has_caught_up();
                    self.confirm(*id);
                    self.propose(*id);
                    self.commit(*id);
                }
            }
            let idle = |member: &Member| member.is_idle() && member.applied == self.log.len();
            let mut reached = self
                .members
                .values()
                .filter(|member| ids.contains(&member.id));
            let idle = reached.all(idle) && before == self.log.len();
            if idle || !self.quorum {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Barriers pass at a member that has applied everything.
    fn confirm(&mut self, at: MemberId) {
        let now = self.now();
        let member = self.members.get_mut(&at).unwrap();
        for client in self
            .clients
            .values_mut()
            .filter(|client| client.member == at)
        {
            if let Answer::Barrier(ticket) = client.answer {
                let db = member.db.as_ref().unwrap();
                client.answer = answer(member.owner.confirm(now, ticket, db));
            }
        }
        self.heed(at);
    }

    fn propose(&mut self, id: MemberId) -> String {
        let now = self.now();
        let member = self.members.get_mut(&id).unwrap();
        let batch = member.propose(now, ROOM);
        let events: Vec<String> = batch
            .map(|batch| batch.events.iter().map(text::event).collect())
            .unwrap_or_default();
        self.heed(id);
        match events.is_empty() {
            true => "nothing".into(),
            false => events.join(", "),
        }
    }

    fn commit(&mut self, id: MemberId) {
        let member = self.members.get_mut(&id).unwrap();
        let Some(flight) = &member.flight else {
            return;
        };
        let batch = flight.batch.clone();
        let number = (batch.incarnation, batch.sequence);
        let entry = Proposal {
            batches: vec![batch],
            own: Vec::new(),
        };
        let result = self.log.commit(Rc::new(entry)).remove(0);
        let member = self.members.get_mut(&id).unwrap();
        member.decided(number, &result);
        self.heed(id);
    }

    fn apply(&mut self, id: MemberId) {
        let now = self.now();
        while let Some(member) = self.members.get_mut(&id)
            && member.applied < self.log.len()
        {
            let entry = self.log.entry(member.applied);
            member.apply(now, &entry);
        }
        self.heed(id);
    }

    fn pass(&mut self, time: &str) {
        let seconds: u64 = time.strip_suffix('s').unwrap().parse().unwrap();
        for _ in 0..seconds {
            self.millis += 1_000;
            let now = self.now();
            let ids: Vec<MemberId> = self.members.keys().copied().collect();
            for id in &ids {
                let member = self.members.get_mut(id).unwrap();
                for _ in 0..10 {
                    member.owner.tick(now, member.db.as_ref());
                }
                member.present |= member.is_recorded_away();
                if !self.cut.contains(id) {
                    self.leading.hears(*id, self.millis);
                }
                self.heed(*id);
            }
            if self.quorum {
                let all: BTreeSet<MemberId> = (1..=3).chain([OPERATOR]).collect();
                self.leading.hears(OPERATOR, self.millis);
                let me = ids[0];
                let db = &self.log.registry;
                let mut own = self.leading.judge(self.millis, now.clock, &all, me, db);
                own.extend(expired(db, now.clock));
                if db.needs_sweep() {
                    own.push(Event::Sweep);
                }
                if !own.is_empty() {
                    let batches = Vec::new();
                    self.log.commit(Rc::new(Proposal { batches, own }));
                }
            }
            self.settle();
        }
    }

    fn operate(&mut self, what: &[&str]) {
        let (topic, channel) = match what[1].split_once('/') {
            Some((topic, channel)) => (topic.to_string(), Some(channel.to_string())),
            None => (what[1].to_string(), None),
        };
        let event = match (what[0], channel) {
            ("delete", None) => Event::DeleteTopic { topic },
            ("delete", Some(channel)) => Event::DeleteChannel { topic, channel },
            ("create", None) => Event::CreateTopic { topic },
            ("create", Some(channel)) => Event::CreateChannel { topic, channel },
            other => panic!("{other:?}?"),
        };
        self.operations += 1;
        let batch = MemberBatch {
            member: OPERATOR,
            incarnation: 1,
            sequence: self.operations,
            at: self.now().clock,
            events: vec![event],
        };
        self.log.commit(Rc::new(Proposal {
            batches: vec![batch],
            own: Vec::new(),
        }));
    }

    fn stop(&mut self, id: MemberId) {
        let member = self.members.remove(&id).unwrap();
        self.clients.retain(|_, client| client.member != id);
        self.stopped.insert(id, member);
    }

    fn start(&mut self, id: MemberId) {
        let old = self.stopped.remove(&id).unwrap();
        let mut member = Member::new(id, old.incarnation + 1, self.settings);
        let rows = rows_of(old.db.as_ref().unwrap());
        member.load(self.now(), load(&rows), old.applied);
        assert_eq!(member.stage, Stage::Late);
        self.members.insert(id, member);
    }

    fn snapshot(&mut self, id: MemberId) {
        let rows = rows_of(&self.log.registry);
        let (now, applied) = (self.now(), self.log.len());
        let member = self.members.get_mut(&id).unwrap();
        member.install(now, load(&rows), applied);
        self.heed(id);
    }

    fn recorded(&self, member: MemberId, host: &str) -> String {
        let db = &self.log.registry;
        let names: Vec<Name> = db.recorded_after(member, &producer(host), None, 1_000);
        let names = names
            .iter()
            .map(|(topic, channel)| text::name(topic, channel.as_deref()));
        or_nothing(&names.collect::<Vec<_>>())
    }

    fn look_up(&self, topic: &str) -> String {
        let lifetimes = Lifetimes {
            now: self.now().clock,
            tombstone: 45_000,
            away: u64::try_from(TIMEOUT.as_millis()).unwrap(),
        };
        let Some(found) = self.log.registry.producers(topic, lifetimes) else {
            return "not listed".into();
        };
        let hosts: Vec<&str> = found
            .map(|view| view.id.broadcast_address.as_str())
            .collect();
        match hosts.is_empty() {
            true => "nobody".into(),
            false => hosts.join(" "),
        }
    }
}

fn settings() -> Settings {
    Settings::with_timeout(TIMEOUT)
}

fn producer(host: &str) -> ProducerId {
    ProducerId {
        broadcast_address: host.into(),
        tcp_port: 4150,
    }
}

fn answer(reply: Reply) -> Answer {
    match reply {
        Reply::Now(verdict) => Answer::Given(verdict),
        Reply::Wait(ticket, _) => Answer::Waits(ticket),
        Reply::Confirm(ticket, _) => Answer::Barrier(ticket),
    }
}

fn number(member: &str) -> MemberId {
    member.parse().expect("a member's number")
}

fn or_nothing<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.is_empty() {
        true => "nothing".into(),
        false => names.join(" "),
    }
}

fn same(found: &str, expected: &str) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("found {found:?}")),
    }
}

#[test]
fn reconnects() {
    play("reconnects.txt", include_str!("scripts/reconnects.txt"));
}

#[test]
fn confirmations() {
    play(
        "confirmations.txt",
        include_str!("scripts/confirmations.txt"),
    );
}

#[test]
fn bounds() {
    play("bounds.txt", include_str!("scripts/bounds.txt"));
}

#[test]
fn sessions() {
    play("sessions.txt", include_str!("scripts/sessions.txt"));
}

#[test]
fn restarts() {
    play("restarts.txt", include_str!("scripts/restarts.txt"));
}

#[test]
fn absence() {
    play("absence.txt", include_str!("scripts/absence.txt"));
}

#[test]
fn deletes() {
    play("deletes.txt", include_str!("scripts/deletes.txt"));
}
