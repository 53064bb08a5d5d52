//! Models the registry's rules naively: sets, scanned in full.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use raftlookupd_storage::event::{Event, MemberBatch, Proposal};
use raftlookupd_storage::registration::{MemberId, PeerInfo, ProducerId};
use raftlookupd_storage::registration_db::Lifetimes;

pub const TOPICS: [&str; 3] = ["mails", "orders", "t#ephemeral"];
pub const CHANNELS: [&str; 3] = ["a", "b", "c#ephemeral"];
const MEMBERS: [MemberId; 3] = [1, 2, 3];
const HOSTS: [&str; 3] = ["h1", "h2", "h3"];

/// The time between two steps.
const STEP: u64 = 1_000;

/// The time in which a restart goes unnoticed, and the tolerance between clocks.
const UNNOTICED: u64 = 4_000;
const CLOCKS_DIFFER: u64 = 500;

/// Members are never away for too long here.
pub const LIFETIMES: Lifetimes = Lifetimes {
    now: 0,
    tombstone: 45_000,
    away: u64::MAX,
};

/// A step. Small numbers select names: (member, host, topic, channel).
#[derive(Debug, Clone)]
pub enum Step {
    Attach(usize, usize),
    Claim(usize, usize, usize, Option<usize>),
    Release(usize, usize, usize, Option<usize>),
    Detach(usize, usize),
    SetActive(usize, usize, bool),
    CreateChannel(usize, usize),
    DeleteTopic(usize),
    DeleteChannel(usize, usize),
    Restart(usize),
    Away(usize),
    Expire(usize),
    ExpireName(usize, usize, Option<usize>),
    Remove(usize),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (m, h, t, c) = (0..3usize, 0..3usize, 0..3usize, 0..3usize);
    let maybe = proptest::option::of(0..3usize);
    let name = (m.clone(), h.clone(), t.clone(), maybe.clone());
    let step = prop_oneof![
        6 => (m.clone(), h.clone()).prop_map(|(m, h)| Step::Attach(m, h)),
        16 => name.clone().prop_map(|(m, h, t, c)| Step::Claim(m, h, t, c)),
        9 => name.prop_map(|(m, h, t, c)| Step::Release(m, h, t, c)),
        4 => (m.clone(), h.clone()).prop_map(|(m, h)| Step::Detach(m, h)),
        2 => (m.clone(), h.clone(), any::<bool>()).prop_map(|(m, h, a)| Step::SetActive(m, h, a)),
        2 => (t.clone(), c.clone()).prop_map(|(t, c)| Step::CreateChannel(t, c)),
        2 => t.clone().prop_map(Step::DeleteTopic),
        2 => (t.clone(), c).prop_map(|(t, c)| Step::DeleteChannel(t, c)),
        4 => m.clone().prop_map(Step::Restart),
        4 => m.clone().prop_map(Step::Away),
        2 => h.clone().prop_map(Step::Expire),
        2 => (h, t, maybe).prop_map(|(h, t, c)| Step::ExpireName(h, t, c)),
        1 => Just(Step::Remove(2)),
    ];
    proptest::collection::vec(step, 1..80)
}

pub fn producer(host: usize) -> ProducerId {
    ProducerId {
        broadcast_address: HOSTS[host].into(),
        tcp_port: 4150,
    }
}

type Listed = (String, Option<String>);
type Claim = (String, Option<String>, usize, MemberId);

#[derive(Debug, Clone, Copy)]
pub struct Attachment {
    incarnation: u64,
    active: bool,
}

#[derive(Debug, Default)]
struct Member {
    /// The process's incarnation, which may not have proposed yet.
    incarnation: u64,
    sequence: u64,
    /// The newest incarnation that has proposed.
    recorded: u64,
    /// When it was last heard, while it is away.
    away: Option<u64>,
    removed: bool,
    /// Incarnations, each with when its predecessor was last heard.
    starts: Vec<(u64, u64)>,
}

#[derive(Default)]
pub struct Model {
    now: u64,
    listed: BTreeSet<Listed>,
    pub claims: BTreeSet<Claim>,
    pub attachments: BTreeMap<(usize, MemberId), Attachment>,
    members: BTreeMap<MemberId, Member>,
    ended: BTreeMap<usize, u64>,
    released: BTreeMap<(usize, String, Option<String>), u64>,
}

impl Model {
    /// Applies a step to the model. Returns the proposal for the registry.
    pub fn step(&mut self, step: &Step) -> Option<Proposal> {
        self.now += STEP;
        let topic = |t: &usize| TOPICS[*t].to_string();
        let channel = |c: &usize| CHANNELS[*c].to_string();
        match step {
            Step::Attach(m, host) => self.batch(*m, |model, member, incarnation| {
                let attachment = Attachment {
                    incarnation,
                    active: true,
                };
                model.attachments.insert((*host, member), attachment);
                model.ended.remove(host);
                Event::Attach {
                    producer: producer(*host),
                    remote_address: "10.0.0.1:5000".into(),
                    info: PeerInfo::default(),
                    at: model.now,
                }
            }),
            Step::Claim(m, host, t, c) => self.batch(*m, |model, member, _| {
                let (topic, channel) = (topic(t), c.as_ref().map(channel));
                if model.attachments.contains_key(&(*host, member)) {
                    for name in BTreeSet::from([None, channel.clone()]) {
                        model.listed.insert((topic.clone(), name.clone()));
                        model.released.remove(&(*host, topic.clone(), name.clone()));
                        model.claims.insert((topic.clone(), name, *host, member));
                    }
                }
                Event::Claim {
                    producer: producer(*host),
                    topic,
                    channel,
                }
            }),
            Step::Release(m, host, t, c) => self.batch(*m, |model, member, _| {
                let (topic, channel) = (topic(t), c.as_ref().map(channel));
                model.release(*host, member, &topic, channel.as_deref());
                Event::Release {
                    producer: producer(*host),
                    topic,
                    channel,
                }
            }),
            Step::Detach(m, host) => self.batch(*m, |model, member, _| {
                if model.attachments.contains_key(&(*host, member)) {
                    let was_present = model.is_present(*host, member);
                    model.leave(*host, member);
                    if was_present && model.members_of(*host).next().is_some() {
                        let now = model.now;
                        let ended = model.ended.entry(*host).or_insert(now);
                        *ended = now.max(*ended);
                    }
                }
                Event::Detach {
                    producer: producer(*host),
                    at: model.now,
                }
            }),
            Step::SetActive(m, host, active) => self.batch(*m, |model, member, _| {
                if let Some(attachment) = model.attachments.get_mut(&(*host, member)) {
                    attachment.active = *active;
                }
                Event::SetActive {
                    producer: producer(*host),
                    active: *active,
                }
            }),
            Step::CreateChannel(t, c) => self.batch(0, |model, _, _| {
                let (topic, channel) = (topic(t), channel(c));
                model.listed.insert((topic.clone(), None));
                model.listed.insert((topic.clone(), Some(channel.clone())));
                Event::CreateChannel { topic, channel }
            }),
            Step::DeleteTopic(t) => self.batch(0, |model, _, _| {
                let topic = topic(t);
                model.delete(&topic);
                Event::DeleteTopic { topic }
            }),
            Step::DeleteChannel(t, c) => self.batch(0, |model, _, _| {
                let (topic, channel) = (topic(t), channel(c));
                model.listed.remove(&(topic.clone(), Some(channel.clone())));
                let other = |claim: &Claim| {
                    claim.0 != topic || claim.1.as_deref() != Some(channel.as_str())
                };
                model.claims.retain(other);
                model.forget_released();
                Event::DeleteChannel { topic, channel }
            }),
            Step::Restart(m) => {
                let member = self.members.entry(MEMBERS[*m]).or_default();
                member.incarnation = member.incarnation.max(1) + 1;
                member.sequence = 0;
                None
            }
            Step::Away(m) => {
                let (id, now) = (MEMBERS[*m], self.now);
                let last_heard = now.saturating_sub(2 * STEP);
                if let Some(member) = self.members.get_mut(&id)
                    && !member.removed
                    && member.recorded > 0
                {
                    member.away.get_or_insert(last_heard);
                }
                own(Event::Away {
                    member: id,
                    last_heard,
                    at: now,
                })
            }
            Step::Expire(host) => {
                let ended = self.ended.get(host).copied();
                if let Some(ended) = ended {
                    for member in self.ended_there(*host, ended) {
                        self.leave(*host, member);
                    }
                }
                own(Event::Expire {
                    producer: producer(*host),
                    ended: ended.unwrap_or(0),
                })
            }
            Step::ExpireName(host, t, c) => {
                let (topic, channel) = (topic(t), c.as_ref().map(channel));
                let key = (*host, topic.clone(), channel.clone());
                let released = self.released.get(&key).copied();
                if let Some(released) = released {
                    for member in self.given_up_at(&key, released) {
                        self.drop_claim(*host, member, &topic, channel.as_deref());
                    }
                }
                own(Event::ExpireName {
                    producer: producer(*host),
                    topic,
                    channel,
                    released: released.unwrap_or(0),
                })
            }
            Step::Remove(m) => {
                let id = MEMBERS[*m];
                let member = self.members.entry(id).or_default();
                (member.removed, member.away) = (true, None);
                for host in 0..HOSTS.len() {
                    self.leave(host, id);
                }
                own(Event::RemoveMember { member: id })
            }
        }
    }

    /// Proposes one event in a member's batch. A removed member proposes nothing.
    fn batch(
        &mut self,
        m: usize,
        event: impl FnOnce(&mut Model, MemberId, u64) -> Event,
    ) -> Option<Proposal> {
        let (id, now) = (MEMBERS[m], self.now);
        let has_attachments = self.attachments.keys().any(|(_, member)| *member == id);
        let member = self.members.entry(id).or_default();
        if member.removed {
            return None;
        }
        member.incarnation = member.incarnation.max(1);
        member.sequence += 1;
        let (incarnation, sequence) = (member.incarnation, member.sequence);
        if member.recorded < incarnation && has_attachments {
            let last_heard = member.away.unwrap_or(now.saturating_sub(UNNOTICED));
            member.starts.push((incarnation, last_heard));
        }
        member.recorded = incarnation;
        member.away = None;
        let event = event(self, id, incarnation);
        Some(Proposal {
            batches: vec![MemberBatch {
                member: id,
                incarnation,
                sequence,
                at: now,
                events: vec![event],
            }],
            own: Vec::new(),
        })
    }

    fn release(&mut self, host: usize, member: MemberId, topic: &str, channel: Option<&str>) {
        self.drop_claim(host, member, topic, channel);
        let holders = self.holders(host, topic, channel);
        if holders.iter().all(|holder| !self.is_present(host, *holder)) {
            for holder in holders {
                self.drop_claim(host, holder, topic, channel);
            }
        }
        let key = (host, topic.to_string(), channel.map(String::from));
        if !self.holders(host, topic, channel).is_empty() {
            self.released.insert(key.clone(), self.now);
        }
        // As upstream, a name in a release is affected even if it was not claimed.
        self.drop_ephemeral(&BTreeSet::from([(key.1, key.2)]));
    }

    fn drop_claim(&mut self, host: usize, member: MemberId, topic: &str, channel: Option<&str>) {
        let released = |claim: &Claim| {
            let below = channel.is_none() || claim.1.as_deref() == channel;
            claim.0 == topic && below && claim.2 == host && claim.3 == member
        };
        self.drop_claims(released);
    }

    fn leave(&mut self, host: usize, member: MemberId) {
        self.attachments.remove(&(host, member));
        self.drop_claims(|claim| claim.2 == host && claim.3 == member);
        if self.members_of(host).next().is_none() {
            self.ended.remove(&host);
        }
    }

    fn drop_claims(&mut self, gone: impl Fn(&Claim) -> bool) {
        let touched: BTreeSet<Listed> = self
            .claims
            .iter()
            .filter(|claim| gone(claim))
            .map(|claim| (claim.0.clone(), claim.1.clone()))
            .collect();
        self.claims.retain(|claim| !gone(claim));
        self.drop_ephemeral(&touched);
        self.forget_released();
    }

    /// Removes ephemeral names, among the affected ones, that have no claims; a topic with
    /// everything below it.
    fn drop_ephemeral(&mut self, touched: &BTreeSet<Listed>) {
        for (topic, channel) in touched {
            let name = channel.as_ref().unwrap_or(topic);
            let claimed = self
                .claims
                .iter()
                .any(|claim| claim.0 == *topic && claim.1 == *channel);
            if !name.ends_with("#ephemeral") || claimed {
                continue;
            }
            match channel {
                None => self.delete(topic),
                Some(_) => {
                    self.listed.remove(&(topic.clone(), channel.clone()));
                }
            }
        }
    }

    fn delete(&mut self, topic: &str) {
        self.listed.retain(|name| name.0 != topic);
        self.claims.retain(|claim| claim.0 != topic);
        self.forget_released();
    }

    /// A released name is remembered while an attachment claims it.
    fn forget_released(&mut self) {
        let claims = &self.claims;
        self.released.retain(|(host, topic, channel), _| {
            claims
                .iter()
                .any(|claim| claim.2 == *host && claim.0 == *topic && claim.1 == *channel)
        });
    }

    fn members_of(&self, host: usize) -> impl Iterator<Item = MemberId> {
        let attachments = self.attachments.keys();
        let of_host = attachments.filter(move |(other, _)| *other == host);
        of_host.map(|(_, member)| *member)
    }

    fn holders(&self, host: usize, topic: &str, channel: Option<&str>) -> Vec<MemberId> {
        let held =
            |claim: &&Claim| claim.2 == host && claim.0 == topic && claim.1.as_deref() == channel;
        self.claims
            .iter()
            .filter(held)
            .map(|claim| claim.3)
            .collect()
    }

    fn is_present(&self, host: usize, member: MemberId) -> bool {
        let attachment = &self.attachments[&(host, member)];
        let member = &self.members[&member];
        member.away.is_none() && member.recorded == attachment.incarnation
    }

    fn last_heard(&self, host: usize, id: MemberId) -> Option<u64> {
        let attachment = &self.attachments[&(host, id)];
        let member = &self.members[&id];
        let mut later = member.starts.iter();
        let later = later.find(|(incarnation, _)| *incarnation > attachment.incarnation);
        later.map(|(_, heard)| *heard).or(member.away)
    }

    fn speaks_for(&self, host: usize, member: MemberId, at: u64) -> bool {
        let heard = self.last_heard(host, member);
        heard.is_some_and(|heard| at + CLOCKS_DIFFER >= heard)
    }

    fn ended_there(&self, host: usize, ended: u64) -> Vec<MemberId> {
        let members: Vec<MemberId> = self.members_of(host).collect();
        if members.iter().any(|member| self.is_present(host, *member)) {
            return Vec::new();
        }
        let mut members = members;
        members.retain(|member| self.speaks_for(host, *member, ended));
        members
    }

    fn given_up_at(
        &self,
        (host, topic, channel): &(usize, String, Option<String>),
        released: u64,
    ) -> Vec<MemberId> {
        let mut holders = self.holders(*host, topic, channel.as_deref());
        if holders.iter().any(|member| self.is_present(*host, *member)) {
            return Vec::new();
        }
        holders.retain(|member| self.speaks_for(*host, *member, released));
        holders
    }

    pub fn expirable(&self) -> BTreeSet<String> {
        let ended = self.ended.iter();
        let ended = ended.filter(|(host, ended)| !self.ended_there(**host, **ended).is_empty());
        ended.map(|(host, _)| HOSTS[*host].to_string()).collect()
    }

    pub fn expirable_names(&self) -> BTreeSet<(String, String, Option<String>)> {
        let released = self.released.iter();
        let released = released.filter(|(key, at)| !self.given_up_at(key, **at).is_empty());
        released
            .map(|((host, topic, channel), _)| {
                (HOSTS[*host].to_string(), topic.clone(), channel.clone())
            })
            .collect()
    }

    pub fn is_listed(&self, topic: &str, channel: Option<&str>) -> bool {
        self.listed
            .contains(&(topic.to_string(), channel.map(String::from)))
    }

    pub fn channels(&self) -> usize {
        let channels = self.listed.iter().filter(|(_, channel)| channel.is_some());
        channels.count()
    }

    pub fn claims_of(&self, host: usize, member: MemberId) -> Vec<Listed> {
        let of_both = |claim: &&Claim| claim.2 == host && claim.3 == member;
        let claims = self.claims.iter().filter(of_both);
        claims
            .map(|claim| (claim.0.clone(), claim.1.clone()))
            .collect()
    }

    pub fn producers(&self, topic: &str) -> BTreeSet<String> {
        let active = |host, member| self.attachments[&(host, member)].active;
        let claims = self.claims.iter();
        let claims = claims.filter(|claim| claim.0 == topic && claim.1.is_none());
        claims
            .filter(|claim| active(claim.2, claim.3))
            .map(|claim| HOSTS[claim.2].to_string())
            .collect()
    }
}

fn own(event: Event) -> Option<Proposal> {
    Some(Proposal {
        batches: Vec::new(),
        own: vec![event],
    })
}
