//! What must hold: after every entry, once a second, and when all has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use raftlookupd_raft::storage::event::{Event, Proposal};
use raftlookupd_raft::storage::registration::{MemberId, ProducerId};
use raftlookupd_raft::storage::registration_db::Lifetimes;

use super::actions::{MEMBERS, NSQDS, STRANGERS};
use super::names::{COUNT, Name};
use super::wire::Connection;
use super::words::Said;
use super::world::{ConnectionId, NOON, TIMEOUT, TOMBSTONE, Time, World};
use crate::leader::GRACE;
use crate::member::Stage;

const PRODUCERS: usize = NSQDS + STRANGERS;

/// A member that has had nothing new to record for so long has recorded it.
const SETTLED: Time = 6_000;

/// A name that is given up at a present member is gone by then.
const NAME_GONE: Time = 15_000;

/// Events in ten seconds.
const FLOOD: usize = 1_000;

/// What the checks remember.
#[derive(Default)]
pub struct Watched {
    /// When another member's word may last have taken something of a producer at a member.
    taken: [[Time; PRODUCERS]; MEMBERS],
    /// When a session of the producer at the member ended last.
    ended: [[Time; PRODUCERS]; MEMBERS],
    /// When one died with its member.
    died: [[Time; PRODUCERS]; MEMBERS],
    /// When one began, and the incarnation of the member to which it sent a PING.
    opened: [[Time; PRODUCERS]; MEMBERS],
    pinged: [[u64; PRODUCERS]; MEMBERS],
    /// When the last session at a present member was committed to have ended, if no other began.
    detached: [Option<Time>; PRODUCERS],
    /// When a name was given up at a present member, if it was not claimed again.
    released: BTreeMap<(usize, Name), Time>,
    /// First batches of incarnations.
    begun: BTreeMap<MemberId, Vec<(u64, Time)>>,
    /// Ephemeral names with claims.
    claimed: [bool; COUNT],
    /// Producers whose attachments an entry expires, where they are.
    expiring: Vec<(usize, u64, Vec<usize>)>,
    /// Names that an entry may take from an nsqd that has not given them up, and was listed.
    risked: Vec<(usize, Name)>,
    /// Names that were released since an old session was left that did not say them.
    old_words: BTreeSet<(usize, Name)>,
    events: usize,
    counted_until: Time,
    entries_at_rest: usize,
}

impl Watched {
    pub fn session_ended(&mut self, connection: &Connection, now: Time) {
        self.ended[connection.place][connection.producer] = now;
    }

    pub fn session_began(&mut self, connection: &Connection, now: Time) {
        self.opened[connection.place][connection.producer] = now;
    }

    pub fn session_pinged(&mut self, connection: &Connection, incarnation: u64) {
        self.pinged[connection.place][connection.producer] = incarnation;
    }

    /// The member's process died with these sessions.
    pub fn died(&mut self, place: usize, producer: usize, now: Time) {
        self.died[place][producer] = now;
    }

    /// A new member takes the place of this one.
    pub fn replaced(&mut self, place: usize) {
        self.pinged[place] = [0; PRODUCERS];
        self.opened[place] = [0; PRODUCERS];
        self.taken[place] = [0; PRODUCERS];
        self.died[place] = [0; PRODUCERS];
    }
}

fn number_of(producer: &ProducerId) -> usize {
    let digits = producer.broadcast_address.trim_start_matches('h');
    digits.parse().expect("a producer of this world")
}

impl World {
    fn place_of(&self, member: MemberId) -> Option<usize> {
        self.nodes.iter().position(|node| node.member.id == member)
    }

    fn sessions_at(&self, place: usize, producer: usize) -> Vec<ConnectionId> {
        let of_it = |id: &ConnectionId| {
            let connection = &self.connections[*id];
            connection.place == place
                && connection.producer == producer
                && connection.session.is_some()
        };
        self.open.iter().copied().filter(of_it).collect()
    }

    /// Whether all clients that announce this address are one.
    fn is_unique(&self, producer: usize) -> bool {
        let nsqds = self.nsqds.iter().filter(|nsqd| nsqd.producer == producer);
        let strangers = self.strangers.iter();
        let strangers = strangers.filter(|stranger| stranger.producer == producer);
        nsqds.count() + strangers.count() == 1
    }

    fn is_recorded(&self, place: usize, producer: usize, name: Name) -> bool {
        let (topic, channel) = (name.topic_text(), name.channel_text());
        let member = self.nodes[place].member.id;
        let producer = &self.producers[producer];
        self.log
            .registry
            .is_recorded(member, producer, topic, channel)
    }

    /// Whether the registry has an attachment that is present.
    fn is_present(&self, place: usize, producer: usize) -> bool {
        let member = self.nodes[place].member.id;
        let recorded = self
            .log
            .registry
            .recorded(member, &self.producers[producer]);
        let row = self.log.registry.member(member);
        recorded.zip(row).is_some_and(|(recorded, row)| {
            row.away.is_none() && row.incarnation == recorded.incarnation
        })
    }

    // Around an entry.

    pub fn before_commit(&mut self, entry: &Proposal) {
        for batch in &entry.batches {
            if !self.log.is_news(batch) {
                continue;
            }
            let known = self.log.registry.member(batch.member);
            if known.is_none_or(|row| row.incarnation < batch.incarnation) {
                let begun = self.watched.begun.entry(batch.member).or_default();
                begun.push((batch.incarnation, self.now));
            }
            self.watched.events += batch.events.len();
            let place = self.place_of(batch.member);
            for event in &batch.events {
                self.before_event(place, event, entry);
            }
        }
        self.watched.events += entry.own.len();
        for event in &entry.own {
            self.before_event(None, event, entry);
        }
    }

    fn before_event(&mut self, place: Option<usize>, event: &Event, entry: &Proposal) {
        match event {
            Event::Attach { producer, .. } => self.watched.detached[number_of(producer)] = None,
            Event::Claim {
                producer,
                topic,
                channel,
            } => {
                let producer = number_of(producer);
                let name = Name::find(topic, channel.as_deref());
                // Of a topic that is claimed again, channels stay as they were.
                for below in name.topic().below().map(Name) {
                    self.watched.released.remove(&(producer, below));
                }
                if let Some(place) = place {
                    for session in self.sessions_at(place, producer) {
                        self.connections[session].words.is_recorded(name);
                    }
                }
            }
            Event::Release {
                producer,
                topic,
                channel,
            } => {
                let producer = number_of(producer);
                let name = Name::find(topic, channel.as_deref());
                self.others_word(place, producer);
                // An old session that is left did not say what newer ones did.
                let left = place.map(|place| self.sessions_at(place, producer));
                let left = left.unwrap_or_default();
                let is_old = |id: &ConnectionId| !self.connections[*id].at_client;
                match left.iter().any(is_old) {
                    true => self
                        .watched
                        .old_words
                        .extend(name.below().map(|name| (producer, Name(name)))),
                    false => self.risk(producer, name),
                }
                if place.is_some_and(|place| self.is_present(place, producer)) {
                    for below in name.below().map(Name) {
                        self.watched.released.insert((producer, below), self.now);
                    }
                }
            }
            Event::Detach { producer, at } => {
                let producer = number_of(producer);
                if place.is_some_and(|place| self.is_present(place, producer)) {
                    self.watched.detached[producer] = Some(at.saturating_sub(NOON));
                }
            }
            Event::DeleteTopic { topic } => self.deleted(Name::find(topic, None)),
            Event::DeleteChannel { topic, channel } => {
                let listed = self.log.registry.channels(topic);
                let is_listed =
                    listed.is_some_and(|mut channels| channels.any(|listed| listed == channel));
                let (of_topic, of_channel) = (topic, channel);
                let mut others = entry.batches.iter().flat_map(|batch| &batch.events);
                let is_made = others.any(|event| match event {
                    Event::Claim { topic, channel, .. } => {
                        topic == of_topic && channel.as_ref() == Some(of_channel)
                    }
                    Event::CreateChannel { topic, channel } => {
                        topic == of_topic && channel == of_channel
                    }
                    _ => false,
                });
                if is_listed || is_made {
                    self.deleted(Name::find(topic, Some(channel)));
                }
            }
            Event::Away { member, .. } => {
                if let Some(place) = self.place_of(*member) {
                    for id in self.open.clone() {
                        if self.connections[id].place == place {
                            self.connections[id].words.retract();
                        }
                    }
                }
            }
            Event::Expire { producer, ended } => {
                let number = number_of(producer);
                self.others_word(None, number);
                let at = (0..MEMBERS).filter(|place| {
                    let member = self.nodes[*place].member.id;
                    self.log.registry.recorded(member, producer).is_some()
                });
                let at = at.collect();
                self.watched.expiring.push((number, ended - NOON, at));
            }
            Event::ExpireName {
                producer,
                topic,
                channel,
                ..
            } => {
                let producer = number_of(producer);
                self.others_word(None, producer);
                let name = Name::find(topic, channel.as_deref());
                if !self.watched.old_words.contains(&(producer, name)) {
                    self.risk(producer, name);
                }
            }
            _ => {}
        }
    }

    /// What a member says of a producer, or the leader, counts for attachments that are not present.
    fn others_word(&mut self, place: Option<usize>, producer: usize) {
        for other in 0..MEMBERS {
            if Some(other) != place && !self.is_present(other, producer) {
                self.watched.taken[other][producer] = self.now;
            }
        }
    }

    /// What an nsqd has had for long, and has not given up, is not to vanish by anyone's word.
    fn risk(&mut self, producer: usize, name: Name) {
        if !self.is_unique(producer) {
            return;
        }
        let Some(nsqd) = self.nsqds.iter().find(|nsqd| nsqd.producer == producer) else {
            return;
        };
        let led_for = self.led_for();
        let long = |since: Time| since.saturating_add(GRACE) < led_for;
        if !nsqd.alive || !long(nsqd.since_led) {
            return;
        }
        for name in name.below().map(Name) {
            let had = nsqd.had_since.get(&name).copied().unwrap_or_default();
            if nsqd.names.contains(&name) && long(had) && self.is_held(producer, name) {
                self.watched.risked.push((producer, name));
            }
        }
    }

    /// Whether a claim of the producer is recorded at any member.
    fn is_held(&self, producer: usize, name: Name) -> bool {
        (0..MEMBERS).any(|place| self.is_recorded(place, producer, name))
    }

    fn deleted(&mut self, name: Name) {
        for nsqd in &mut self.nsqds {
            for below in name.below().map(Name) {
                nsqd.had_since.insert(below, Time::MAX);
            }
        }
        for id in self.open.clone() {
            let connection = &mut self.connections[id];
            if connection.session.is_some() {
                connection.words.delete(name);
                connection.changed = self.now;
            }
        }
    }

    pub fn after_commit(&mut self, entry: &Proposal) {
        let batches = entry.batches.iter().flat_map(|batch| &batch.events);
        let mut events = batches.chain(&entry.own);
        let takes =
            events.any(|event| !matches!(event, Event::Claim { .. } | Event::Attach { .. }));
        if takes {
            self.check_promises();
            self.check_expired();
        }
        for (producer, name) in std::mem::take(&mut self.watched.risked) {
            if !self.is_held(producer, name) {
                self.violate("unlisted", format!("h{producer} {name}, never given up"));
            }
        }
        self.check_ephemeral(entry);
    }

    // Acknowledged registrations.

    /// REGISTER is answered with `OK`.
    pub fn promise(&mut self, connection: ConnectionId, name: Name) {
        let place = self.connections[connection].place;
        let producer = self.connections[connection].producer;
        let member = self.nodes[place].member.id;
        let row = self.log.registry.member(member);
        let is_away = row.is_some_and(|row| row.away.is_some());
        let recorded = self.is_recorded(place, producer, name);
        let is_lost = !self.connections[connection].at_client;
        let words = &mut self.connections[connection].words;
        words.confirm(name);
        if is_away || is_lost {
            words.retract();
        } else if !recorded && words.of(name).deleted {
            // Between its commit and the answer.
            words.was_deleted(name);
        } else if !recorded {
            self.violate(
                "acknowledged",
                format!("h{producer} {name} at m{} is not recorded", place + 1),
            );
        }
    }

    fn check_promises(&mut self) {
        let mut broken = None;
        for id in &self.open {
            let connection = &self.connections[*id];
            let place = connection.place;
            if !connection.at_client || !connection.at_server || connection.session.is_none() {
                continue;
            }
            let mut promised = connection.words.promised();
            let missing =
                promised.find(|name| !self.is_recorded(place, connection.producer, *name));
            if let Some(name) = missing {
                broken = Some((*id, connection.producer, name, place));
            }
        }
        if let Some((id, producer, name, place)) = broken {
            let text = format!(
                "h{producer} {name} at m{} is gone (connection {id})",
                place + 1
            );
            self.violate("acknowledged", text);
        }
    }

    /// UNREGISTER is answered with `OK`.
    pub fn check_withdrawn(&mut self, connection: ConnectionId, name: Name) {
        let place = self.connections[connection].place;
        let producer = self.connections[connection].producer;
        let sessions = self.sessions_at(place, producer);
        let is_wanted = |below: usize| {
            let mut sessions = sessions.iter();
            sessions.any(|id| self.connections[*id].words.of(Name(below)).said != Said::No)
        };
        let wanted = name.below().any(is_wanted);
        if !wanted && self.is_recorded(place, producer, name) {
            self.violate(
                "withdrawn",
                format!("h{producer} {name} at m{} is recorded", place + 1),
            );
        }
    }

    /// An nsqd that lives, and was not disturbed, is back before its grace period is over.
    fn check_expired(&mut self) {
        for (producer, ended, places) in std::mem::take(&mut self.watched.expiring) {
            let lost = places.iter().any(|place| {
                let member = self.nodes[*place].member.id;
                let recorded = self
                    .log
                    .registry
                    .recorded(member, &self.producers[producer]);
                recorded.is_none()
            });
            let nsqd = self.nsqds.iter().find(|nsqd| nsqd.producer == producer);
            let Some(nsqd) = nsqd.filter(|_| lost && self.is_unique(producer)) else {
                continue;
            };
            let was_disturbed = nsqd.disturbed > ended + 300;
            let reachable = nsqd.lookupds.iter().any(|place| {
                self.nodes[*place]
                    .healthy_since
                    .is_some_and(|since| since <= ended)
            });
            if nsqd.alive && nsqd.since < ended && !was_disturbed && reachable {
                self.violate(
                    "expired",
                    format!("h{producer} lives, its session ended at {ended}"),
                );
            }
        }
    }

    fn check_ephemeral(&mut self, entry: &Proposal) {
        let mut batches = entry.batches.iter().flat_map(|batch| &batch.events);
        let created = batches.any(|event| {
            matches!(
                event,
                Event::CreateTopic { .. } | Event::CreateChannel { .. }
            )
        });
        for name in Name::all().filter(|name| name.is_ephemeral()) {
            let channels = self.log.registry.channels(name.topic_text());
            let is_listed = channels.is_some_and(|mut channels| {
                let channel = name.channel_text();
                channel.is_none_or(|channel| channels.any(|listed| listed == channel))
            });
            let is_claimed = is_listed && self.is_claimed(name);
            let was_claimed = std::mem::replace(&mut self.watched.claimed[name.0], is_claimed);
            if was_claimed && is_listed && !is_claimed && !created {
                self.violate("ephemeral", format!("{name} has no claims and is listed"));
            }
        }
    }

    /// Whether any member, be it one that was removed, holds a claim of the name.
    fn is_claimed(&self, name: Name) -> bool {
        let (topic, channel) = (name.topic_text(), name.channel_text());
        let registry = &self.log.registry;
        (1..=self.last_member).any(|member| {
            let mut producers = self.producers.iter();
            producers.any(|producer| registry.is_recorded(member, producer, topic, channel))
        })
    }

    // Once a second.

    pub fn check(&mut self) {
        if self.now >= self.watched.counted_until {
            self.watched.counted_until = self.now + 10_000;
            if self.watched.events > FLOOD {
                let events = self.watched.events;
                self.violate("flood", format!("{events} events in ten seconds"));
            }
            self.watched.events = 0;
        }
        if !(self.now / 1000).is_multiple_of(3) {
            return;
        }
        for place in 0..MEMBERS {
            if self.is_settled(place) {
                for producer in 0..PRODUCERS {
                    self.check_recorded(place, producer, SETTLED);
                }
            }
        }
        for producer in 0..PRODUCERS {
            if self.is_unique(producer) {
                self.check_gone(producer);
            }
        }
    }

    /// Whether the member has had time to record what it wants.
    fn is_settled(&self, place: usize) -> bool {
        let node = &self.nodes[place];
        let healthy = node
            .healthy_since
            .is_some_and(|since| since + SETTLED <= self.now);
        let begun = self.watched.begun.get(&node.member.id);
        let begun = begun.and_then(|begun| begun.last());
        let live = begun.is_some_and(|(incarnation, at)| {
            *incarnation == node.member.incarnation && at + SETTLED <= self.now
        });
        let leads_late = self
            .leading
            .as_ref()
            .is_some_and(|led| self.nodes[led.by].lags_until + SETTLED > self.now);
        healthy
            && live
            && !leads_late
            && node.member.stage == Stage::Live
            && node.lags_until + SETTLED <= self.now
            && self.led_since + SETTLED <= self.now
    }

    /// Recorded is what is wanted.
    fn check_recorded(&mut self, place: usize, producer: usize, settled: Time) {
        let node = &self.nodes[place];
        let (member, incarnation) = (node.member.id, node.member.incarnation);
        let sessions = self.sessions_at(place, producer);
        let sessions: Vec<&Connection> = sessions.iter().map(|id| &self.connections[*id]).collect();
        let changed = sessions.iter().map(|session| session.changed).max();
        let changed = changed.max(Some(self.watched.ended[place][producer]));
        if changed.is_some_and(|at| at + settled > self.now) {
            return;
        }
        let recorded = self
            .log
            .registry
            .recorded(member, &self.producers[producer]);
        let who = format!("h{producer} at m{}", place + 1);
        let opened = self.watched.opened[place][producer];
        let inherits = self.watched.pinged[place][producer] != incarnation
            && self.now < opened + TIMEOUT + settled;
        // An nsqd that has come back may not have registered all it has.
        let newest = sessions.iter().max_by_key(|session| session.session);
        let protected = newest.map_or(inherits, |newest| !newest.pinged);

        if sessions.is_empty() {
            let Some(recorded) = recorded else {
                return;
            };
            let begun = self.watched.begun.get(&member);
            let mut later = begun.into_iter().flatten();
            let next = later.find(|(number, _)| *number > recorded.incarnation);
            if !protected && next.is_none_or(|(_, at)| at + TIMEOUT + settled <= self.now) {
                self.violate("ghost", format!("{who} has no session"));
            }
            return;
        }
        let excused = |heard: Option<Time>| {
            let taken = self.watched.taken[place][producer];
            let known = taken.max(node.healthy_since.unwrap_or(self.now));
            taken > 0
                && heard.is_none_or(|heard| heard <= known + 1_000 || heard + settled > self.now)
        };
        let heard = sessions.iter().map(|session| session.heard).max();
        let attached = recorded.is_some_and(|known| known.incarnation == incarnation);
        if !attached {
            if !excused(heard) {
                self.violate("missing", format!("{who} has a session"));
            }
            return;
        }
        let silence = self.now - heard.unwrap_or(self.now);
        let at_limit = silence + settled > TIMEOUT && silence < TIMEOUT + settled;
        let active = recorded.is_some_and(|known| known.active);
        if !at_limit && active != (silence <= TIMEOUT) {
            self.violate("activity", format!("{who} is silent for {silence} ms"));
            return;
        }
        let mut wrong = None;
        for name in Name::all() {
            let says = sessions.iter().map(|session| session.words.of(name).said);
            let said = says.max().unwrap_or_default();
            let recorded = self.is_recorded(place, producer, name);
            let speakers = sessions.iter();
            let speakers = speakers.filter(|session| session.words.of(name).said == Said::Yes);
            let heard = speakers.map(|session| session.heard).max();
            match (said, recorded) {
                (Said::Yes, false) if !excused(heard) => wrong = Some(("missing", name)),
                (Said::No, true) if !protected => wrong = Some(("ghost", name)),
                _ => {}
            }
        }
        if let Some((kind, name)) = wrong {
            self.violate(kind, format!("{who}: {name}"));
        }
    }

    /// Whether a session of the producer at the member ended before its first PING there: what
    /// earlier incarnations recorded outlives it.
    fn was_protected(&self, place: usize, producer: usize) -> bool {
        let begun = self.watched.begun.get(&self.nodes[place].member.id);
        let mut begun = begun.into_iter().flatten();
        let recorded = self.nodes[place].member.id;
        let recorded = self
            .log
            .registry
            .recorded(recorded, &self.producers[producer]);
        let incarnation = recorded.map_or(0, |recorded| recorded.incarnation);
        self.watched.pinged[place][producer] != incarnation
            && begun.any(|(number, _)| *number < incarnation)
    }

    /// What every present member has withdrawn is gone in time.
    fn check_gone(&mut self, producer: usize) {
        let led = |since: Time| self.led_since < since;
        let leads_late = self
            .leading
            .as_ref()
            .is_none_or(|led| self.nodes[led.by].lags_until + SETTLED > self.now);
        if leads_late {
            return;
        }
        let sessions: Vec<Vec<ConnectionId>> = (0..MEMBERS)
            .map(|place| self.sessions_at(place, producer))
            .collect();
        let mut stays = None;
        for place in 0..MEMBERS {
            let member = self.nodes[place].member.id;
            let died = self.watched.died[place][producer];
            let recorded = self
                .log
                .registry
                .recorded(member, &self.producers[producer]);
            if recorded.is_none()
                || self.is_present(place, producer)
                || self.was_protected(place, producer)
                || !sessions[place].is_empty()
                || !led(died)
            {
                continue;
            }
            if sessions.iter().all(Vec::is_empty)
                && let Some(ended) = self.watched.detached[producer]
                && died <= ended
                && ended + GRACE + SETTLED < self.now
            {
                stays = Some(format!(
                    "h{producer} at m{} has ended at {ended}",
                    place + 1
                ));
            }
            for name in Name::all() {
                let Some(released) = self.watched.released.get(&(producer, name)).copied() else {
                    continue;
                };
                let ended = self.watched.ended.iter().map(|ended| ended[producer]).max();
                let released_or_ended = released.max(ended.unwrap_or_default());
                let wanted = sessions
                    .iter()
                    .flatten()
                    .any(|id| self.connections[*id].words.of(name).said != Said::No);
                let holds = |place: usize| {
                    self.is_present(place, producer) && self.is_recorded(place, producer, name)
                };
                let wanted = wanted || (0..MEMBERS).any(holds);
                if !wanted
                    && died <= released
                    && released_or_ended + NAME_GONE < self.now
                    && self.is_recorded(place, producer, name)
                {
                    let place = place + 1;
                    stays = Some(format!(
                        "h{producer} {name} at m{place}, given up at {released}"
                    ));
                }
            }
        }
        if let Some(text) = stays {
            self.violate("stays", text);
        }
    }

    // At rest.

    pub fn check_rest(&mut self) {
        for place in 0..MEMBERS {
            let node = &self.nodes[place];
            let name = format!("m{}", place + 1);
            if !node.member.is_idle() {
                self.violate("restless", format!("{name} has something to propose"));
                return;
            }
            if node.member.applied != self.log.len() {
                self.violate("restless", format!("{name} has not applied all"));
                return;
            }
            let counts = node.member.owner.counts(node.member.db.as_ref());
            let silent = self.open.iter().any(|id| {
                let connection = &self.connections[*id];
                connection.place == place && connection.heard + TIMEOUT < self.now
            });
            // What was taken from a silent session waits until it is heard.
            let undecided = counts.undecided_bytes > 0 && !silent;
            if undecided || counts.inherited > 0 || counts.repairs > 0 {
                self.violate("restless", format!("{name}: {counts:?}"));
                return;
            }
            let open = self.open.iter().filter(|id| {
                let connection = &self.connections[**id];
                connection.place == place && connection.session.is_some()
            });
            let open = open.count();
            if open != counts.sessions {
                self.violate("restless", format!("{name}: {counts:?}, {open} are open"));
                return;
            }
            for producer in 0..PRODUCERS {
                self.check_recorded(place, producer, 1_500);
            }
        }
        self.check_listed();
        self.watched.entries_at_rest = self.log.len();
    }

    /// A producer is listed for a topic exactly if some open session of it says so.
    fn check_listed(&mut self) {
        let lifetimes = Lifetimes {
            now: NOON + self.now,
            tombstone: TOMBSTONE,
            away: TIMEOUT,
        };
        for producer in 0..PRODUCERS {
            let mut sessions = Vec::new();
            for place in 0..MEMBERS {
                let here = self.sessions_at(place, producer);
                let heard = here.iter().map(|id| self.connections[*id].heard).max();
                if heard.is_some_and(|heard| heard + TIMEOUT + 1_500 >= self.now) {
                    sessions.extend(here);
                }
            }
            for name in Name::all().filter(|name| name.is_topic()) {
                let says = sessions
                    .iter()
                    .map(|id| self.connections[*id].words.of(name).said);
                let said = says.max().unwrap_or_default();
                let listed = self.log.registry.producers(name.topic_text(), lifetimes);
                let listed = listed.is_some_and(|mut listed| {
                    listed.any(|view| *view.id == *self.producers[producer])
                });
                if said != Said::Maybe && listed != (said == Said::Yes) {
                    let text = format!("h{producer} {name}: said {said:?}, listed {listed}");
                    self.violate("listed", text);
                    return;
                }
            }
        }
    }

    /// Nothing is written when nothing changes.
    pub fn check_quiet(&mut self) {
        let entries = self.log.len() - self.watched.entries_at_rest;
        if entries > 0 {
            self.violate("flood", format!("{entries} entries at rest"));
        }
    }
}
