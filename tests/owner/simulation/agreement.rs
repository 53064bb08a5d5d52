//! How the members agree: a leader, batches on their way to it, entries on their way from it. All
//! of it is late, lost, repeated now and then.

use std::collections::BTreeMap;
use std::rc::Rc;

use raftlookupd_raft::storage::event::{BatchResult, Event, Proposal};

use super::actions::Http;
use super::names::Name;
use super::world::{Led, NOON, Time, What, World, trace};
use crate::leader::{Leading, expired};
use crate::member::{Request, Stage};

/// Between two looks of the leader.
const LOOK: Time = 1_000;

impl World {
    /// Whether the member reaches a leader that has a quorum.
    pub fn reaches_leader(&self, place: usize) -> bool {
        self.leading.is_some() && self.is_member(place) && self.nodes[place].is_reachable()
    }

    fn is_member(&self, place: usize) -> bool {
        self.membership.contains(&self.nodes[place].member.id)
    }

    /// For how long there has been a leader.
    pub fn led_for(&self) -> Time {
        let now = self
            .leading
            .as_ref()
            .map_or(0, |_| self.now - self.led_since);
        self.led_before + now
    }

    fn has_quorum(&self) -> bool {
        let reachable = self
            .nodes
            .iter()
            .filter(|node| node.is_reachable() && self.membership.contains(&node.member.id));
        reachable.count() * 2 > self.membership.len()
    }

    /// After any change of who reaches whom.
    pub fn watch_leader(&mut self) {
        let leads = self.leading.as_ref().map(|led| led.by);
        if leads.is_some_and(|by| !self.nodes[by].is_reachable() || !self.is_member(by))
            || !self.has_quorum()
        {
            self.lose_leader();
        }
        for place in 0..self.nodes.len() {
            let reaches = self.reaches_leader(place);
            let node = &mut self.nodes[place];
            match (reaches, node.healthy_since) {
                (true, None) => {
                    node.healthy_since = Some(self.now);
                    let process = self.process(place);
                    self.after(1, What::Apply(process, 0));
                }
                (false, Some(_)) => {
                    node.healthy_since = None;
                    node.last_contact = self.now;
                }
                _ => {}
            }
        }
    }

    pub fn lose_leader(&mut self) {
        let Some(led) = self.leading.take() else {
            return;
        };
        trace!(self, "m{} leads no longer", led.by + 1);
        self.led_before += self.now - self.led_since;
        self.epoch += 1;
        // What it had appended may be committed by the next leader.
        if led.is_busy && self.weather.losses && self.luck.percent(50) {
            let batches = led.waiting.into_values().map(|(_, batch)| batch);
            let proposal = Proposal {
                batches: batches.collect(),
                own: led.own,
            };
            self.after(0, What::CommitLate(Rc::new(proposal)));
        }
        let election = self.luck.between(300, 1_500);
        self.after(election, What::Elect);
        self.watch_leader();
    }

    pub fn elect(&mut self) {
        if self.leading.is_some() {
            return;
        }
        let candidates: Vec<usize> = (0..self.nodes.len())
            .filter(|place| self.nodes[*place].is_reachable() && self.is_member(*place))
            .filter(|place| self.nodes[*place].member.db.is_some())
            .collect();
        if !self.has_quorum() || candidates.is_empty() {
            self.after(500, What::Elect);
            return;
        }
        let by = self.luck.pick(&candidates);
        trace!(self, "m{} leads", by + 1);
        let led_before = Some(self.nodes[by].last_contact).filter(|at| *at > 0);
        self.leading = Some(Led {
            by,
            leading: Leading::new(self.now, led_before),
            waiting: BTreeMap::new(),
            own: Vec::new(),
            is_busy: false,
        });
        self.led_since = self.now;
        let epoch = self.epoch;
        self.after(100, What::Look(epoch));
        self.watch_leader();
    }

    /// The leader's loops: who is away, what expires, what is to be swept.
    pub fn look(&mut self, epoch: u32) {
        if epoch != self.epoch {
            return;
        }
        let Some(led) = &mut self.leading else {
            return;
        };
        for (place, node) in self.nodes.iter_mut().enumerate() {
            let heard = match node.is_reachable() {
                true => self.now - node.luck.below(1_000).min(self.now),
                // It may have died since the last look.
                false if !node.up => node.died - node.luck.below(1_000).min(node.died),
                false => continue,
            };
            if place != led.by && heard + LOOK > self.now {
                led.leading.hears(node.member.id, heard);
            }
        }
        let node = &self.nodes[led.by];
        let clock = NOON + self.now - node.late;
        if let Some(db) = &node.member.db {
            let own = &mut led.own;
            own.extend(
                led.leading
                    .judge(self.now, clock, &self.membership, node.member.id, db),
            );
            own.extend(expired(db, clock));
            if db.needs_sweep() {
                own.push(Event::Sweep);
            }
            if !own.is_empty() {
                self.begin_entry();
            }
        }
        self.after(LOOK, What::Look(epoch));
    }

    fn begin_entry(&mut self) {
        let time = self.luck.between(2, 15);
        let epoch = self.epoch;
        if let Some(led) = &mut self.leading
            && !std::mem::replace(&mut led.is_busy, true)
        {
            self.after(time, What::Commit(epoch));
        }
    }

    pub fn commit(&mut self, epoch: u32) {
        if epoch != self.epoch {
            return;
        }
        let Some(led) = &mut self.leading else {
            return;
        };
        led.is_busy = false;
        let by = led.by;
        let waiting = std::mem::take(&mut led.waiting);
        let own = std::mem::take(&mut led.own);
        let (processes, batches): (Vec<_>, Vec<_>) = waiting.into_values().unzip();
        let entry = Rc::new(Proposal { batches, own });
        let results = self.append(&entry);
        let lags = self.nodes[by].lags_until > self.now;
        for ((process, batch), result) in processes.into_iter().zip(&entry.batches).zip(results) {
            let lost = self.weather.losses && !self.healed && self.luck.percent(5);
            if !lost {
                let way = self.luck.between(1, 10) + if lags { 1_000 } else { 0 };
                let number = (batch.incarnation, batch.sequence);
                self.after(way, What::Decided(process, number, result));
            }
        }
        if self.weather.losses && !self.healed && self.luck.percent(10) {
            let repeated = Proposal {
                batches: entry.batches.clone(),
                own: Vec::new(),
            };
            let time = self.luck.between(1, 3_000);
            self.after(time, What::CommitLate(Rc::new(repeated)));
        }
    }

    pub fn commit_late(&mut self, entry: Rc<Proposal>) {
        if self.leading.is_none() {
            if !self.healed {
                self.after(200, What::CommitLate(entry));
            }
            return;
        }
        trace!(self, "late:");
        self.append(&entry);
    }

    fn append(&mut self, entry: &Rc<Proposal>) -> Vec<BatchResult> {
        self.before_commit(entry);
        let results = self.log.commit(entry.clone());
        trace!(
            self,
            "entry {}: {}",
            self.log.len(),
            crate::text::proposal(entry)
        );
        self.after_commit(entry);
        for place in 0..self.nodes.len() {
            if !self.nodes[place].is_reachable() {
                continue;
            }
            let way = match self.nodes[place].lags_until > self.now {
                true => self.luck.between(500, 3_000),
                false => self.luck.between(1, 12),
            };
            let process = self.process(place);
            self.after(way, What::Apply(process, self.log.len()));
        }
        results
    }

    // A member's batch.

    pub fn deliver(&mut self, place: usize) {
        let process = self.process(place);
        let Some(flight) = &self.nodes[place].member.flight else {
            return;
        };
        if !self.reaches_leader(place) {
            self.after(30, What::Deliver(process));
            return;
        }
        let batch = flight.batch.clone();
        let lost = self.weather.losses && !self.healed && self.luck.percent(5);
        if !lost && let Some(led) = &mut self.leading {
            led.waiting.insert(batch.member, (process, batch));
            self.begin_entry();
        }
        // It is repeated until its fate is known.
        self.after(1_000, What::Deliver(process));
    }

    pub fn decided(&mut self, place: usize, batch: (u64, u64), result: &BatchResult) {
        let member = &mut self.nodes[place].member;
        let decided = member.decided(batch, result);
        if member.stage == Stage::Superseded {
            self.violate("superseded", format!("m{}", place + 1));
            return;
        }
        for (request, refusal) in decided.into_iter().flat_map(|decided| decided.requests) {
            trace!(self, "request {} is done: {refusal:?}", request.0);
        }
        self.carry_out(place);
        if self.nodes[place].member.stage == Stage::Behind {
            let process = self.process(place);
            self.after(1, What::CaughtUp(process));
        }
    }

    // HTTP.

    pub fn request(&mut self, place: usize, http: Http, name: Name) {
        if !self.reaches_leader(place) || self.nodes[place].member.stage != Stage::Live {
            // 503, nothing done.
            return;
        }
        let topic = name.topic_text().to_string();
        let channel = name.channel_text().map(String::from);
        let event = match (http, channel) {
            (Http::Create, None) => Event::CreateTopic { topic },
            (Http::Create, Some(channel)) => Event::CreateChannel { topic, channel },
            (Http::Delete | Http::DeleteEverywhere, None) => Event::DeleteTopic { topic },
            (Http::Delete | Http::DeleteEverywhere, Some(channel)) => {
                Event::DeleteChannel { topic, channel }
            }
            (Http::Tombstone(nsqd), _) => Event::Tombstone {
                topic,
                node: format!("h{nsqd}:4151"),
                at: self.time_at(place).clock,
            },
        };
        self.last_request += 1;
        let request = Request(self.last_request);
        self.nodes[place].member.ask(request, event);
        self.carry_out(place);
        if http == Http::DeleteEverywhere {
            for nsqd in 0..self.nsqds.len() {
                self.drop_name(nsqd, name);
            }
        }
    }
}
