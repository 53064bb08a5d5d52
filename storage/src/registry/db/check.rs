//! Checks a registry as a whole: every index against what it indexes, every count, every hash.
//!
//! This takes time proportional to the registry, so only debug builds do it, for some registries
//! that are small.

use std::collections::{BTreeMap, BTreeSet};

use super::invariant::present;
use super::topic::Topic;
use super::{Attachment, RegistrationDb};
use crate::error::{Error, Result};
use crate::registry::rows::{Row, row_hash};
use crate::registry::values::is_ephemeral;

/// The most facts that a small registry has.
const SMALL: usize = 64;

/// One state in this many is checked: enough for tests, without slowing them down.
const ONE_IN: u128 = 5;

impl RegistrationDb {
    /// Checks this registry, if it is small and its turn has come.
    ///
    /// # Errors
    /// [`Error::Invariant`] if something is inconsistent.
    pub(super) fn check_sometimes(&self) -> Result<()> {
        let of_topics = self.topics.len() + self.channel_count + self.claim_count;
        let facts = self.attachments.len() + of_topics + self.deleted.len();
        match facts <= SMALL && self.state_hash.is_multiple_of(ONE_IN) {
            true => self.check(),
            false => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        self.check_producers()?;
        self.check_attachments()?;
        self.check_topics()?;
        self.check_counts()?;
        let hash = sum_of_hashes(self.rows())?;
        agree(
            "the state hash and that of all rows",
            &self.state_hash,
            &hash,
        )
    }

    /// Checks producers by address, and the attachments of each.
    fn check_producers(&self) -> Result<()> {
        let numbers = self.producers.iter();
        let numbers = numbers.map(|(number, producer)| (producer.row.id.clone(), *number));
        let numbers: BTreeMap<_, _> = numbers.collect();
        agree(
            "the index of producers and producers",
            &self.numbers,
            &numbers,
        )?;
        for (number, producer) in &self.producers {
            let own = |attachment: &&Attachment| attachment.row.producer == *number;
            let all = self.attachments.values().filter(own).count();
            let counted = producer.attachments.len();
            agree(
                "a producer's attachments and their number",
                &all,
                &(counted + producer.leaving as usize),
            )?;
            if all == 0 {
                return Err(Error::invariant(format!(
                    "producer {number} has no attachment"
                )));
            }
            for (member, attachment) in &producer.attachments {
                let row = &present(&self.attachments, attachment, "attachment")?.row;
                agree(
                    "a producer's attachment and its row",
                    &(*number, *member, false),
                    &(row.producer, row.member, row.leaving),
                )?;
            }
        }
        Ok(())
    }

    /// Checks attachments by member, ended ones, and the topics that each claims.
    fn check_attachments(&self) -> Result<()> {
        let mut leaving = BTreeSet::new();
        let mut of_members: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (number, attachment) in &self.attachments {
            let row = &attachment.row;
            match row.leaving {
                true => drop(leaving.insert(*number)),
                false => {
                    let of_member = of_members.entry(row.member).or_default();
                    of_member.insert((row.incarnation, *number));
                }
            }
            let topics = self.topics.iter();
            let claimed = topics.filter(|(_, topic)| topic.claims.contains_key(number));
            let claimed: BTreeSet<_> = claimed.map(|(name, _)| name.clone()).collect();
            agree(
                "an attachment's topics and its claims",
                &attachment.topics,
                &claimed,
            )?;
        }
        agree(
            "the index of ended attachments and attachments",
            &self.leaving,
            &leaving,
        )?;
        for (id, member) in &self.members {
            let expected = of_members.remove(id).unwrap_or_default();
            agree(
                "a member's attachments and attachments",
                &member.attachments,
                &expected,
            )?;
        }
        match of_members.first_key_value() {
            None => Ok(()),
            Some((member, _)) => Err(Error::invariant(format!(
                "member {member} has attachments but no entry"
            ))),
        }
    }

    /// Checks each topic by itself, and the indexes of topics.
    fn check_topics(&self) -> Result<()> {
        let (mut releasing, mut given_up) = (BTreeSet::new(), BTreeSet::new());
        for (name, topic) in &self.topics {
            topic.check(name)?;
            for (number, claim) in &topic.claims {
                let attachment = present(&self.attachments, number, "attachment")?;
                if claim.releasing && !attachment.row.leaving {
                    releasing.insert((name.clone(), *number));
                }
            }
            for producer in topic.tombstones.keys() {
                let mut claimants = topic.claims.keys();
                let of_producer = |number| {
                    let attachment = self.attachments.get(number);
                    attachment.is_some_and(|attachment| attachment.row.producer == *producer)
                };
                if !claimants.any(of_producer) {
                    let what = format!("a tombstone of producer {producer} outlives its claims");
                    return Err(Error::invariant(what));
                }
            }
            if !topic.released.is_empty() {
                given_up.insert(name.clone());
            }
        }
        agree(
            "the index of releasing claims and claims",
            &self.releasing,
            &releasing,
        )?;
        agree(
            "the index of topics with releases and topics",
            &self.given_up,
            &given_up,
        )
    }

    fn check_counts(&self) -> Result<()> {
        let channels: usize = self.topics.values().map(|topic| topic.channels.len()).sum();
        agree(
            "the count of channels and channels",
            &self.channel_count,
            &channels,
        )?;
        let claims = self.topics.values().flat_map(|topic| topic.claims.values());
        let claims: usize = claims.map(|claim| 1 + claim.len()).sum();
        agree("the count of claims and claims", &self.claim_count, &claims)
    }
}

impl Topic {
    fn check(&self, name: &str) -> Result<()> {
        agree(
            "a topic's hash and that of its rows",
            &self.hash,
            &sum_of_hashes(self.facts(name))?,
        )?;
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for claim in self.claims.values() {
            for channel in claim.channels() {
                present(&self.channels, &**channel, "claimed channel")?;
                if is_ephemeral(channel) {
                    *counts.entry(channel).or_default() += 1;
                }
            }
        }
        for (channel, count) in &self.channels {
            let claimed = counts.get(&**channel).copied().unwrap_or_default();
            agree("a channel's count of claims and claims", count, &claimed)?;
        }
        Ok(())
    }
}

fn sum_of_hashes(rows: impl Iterator<Item = Row>) -> Result<u128> {
    let mut sum: u128 = 0;
    for row in rows {
        sum = sum.wrapping_add(row_hash(&row.key(), &row.value()?));
    }
    Ok(sum)
}

fn agree<T: PartialEq + std::fmt::Debug>(what: &str, kept: &T, expected: &T) -> Result<()> {
    match kept == expected {
        true => Ok(()),
        false => Err(Error::invariant(format!(
            "{what} differ: {kept:?} and {expected:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::event::{Event, MemberBatch, Proposal};
    use crate::registry::values::ProducerId;

    fn producer() -> ProducerId {
        ProducerId {
            broadcast_address: "h1".into(),
            tcp_port: 4150,
        }
    }

    fn apply(db: &mut RegistrationDb, event: Event) -> Result<()> {
        let sequence = db.member(1).map_or(0, |member| member.sequence) + 1;
        let batch = MemberBatch {
            member: 1,
            incarnation: 1,
            sequence,
            at: 0,
            events: vec![event],
        };
        let proposal = Proposal {
            batches: vec![batch],
            ..Proposal::default()
        };
        db.apply(&proposal).map(drop)
    }

    /// One producer that claims a lasting and an ephemeral channel.
    fn registry() -> RegistrationDb {
        let mut db = RegistrationDb::new();
        let attach = Event::Attach {
            producer: producer(),
            remote_address: "127.0.0.1:5".into(),
            info: Default::default(),
            at: 0,
        };
        apply(&mut db, attach).unwrap();
        for channel in ["archive", "tail#ephemeral"] {
            let claim = Event::Claim {
                producer: producer(),
                topic: "orders".into(),
                channel: Some(channel.into()),
            };
            apply(&mut db, claim).unwrap();
        }
        db
    }

    #[test]
    fn every_broken_index_is_noticed() {
        let breaks: [fn(&mut RegistrationDb); 12] = [
            |db| db.numbers.clear(),
            |db| db.members.values_mut().for_each(|m| m.attachments.clear()),
            |db| db.members.clear(),
            |db| db.producers.get_mut(&0).unwrap().leaving = 1,
            |db| db.producers.get_mut(&0).unwrap().attachments.clear(),
            |db| db.attachments.get_mut(&0).unwrap().topics.clear(),
            |db| {
                db.leaving.insert(0);
            },
            |db| {
                db.releasing.insert(("orders".into(), 0));
            },
            |db| {
                db.given_up.insert("orders".into());
            },
            |db| db.claim_count += 1,
            |db| db.channel_count -= 1,
            |db| db.state_hash += 1,
        ];
        registry().check().unwrap();
        for (number, change) in breaks.iter().enumerate() {
            let mut db = registry();
            change(&mut db);
            let error = db.check().expect_err(&format!("break {number}"));
            assert!(matches!(error, Error::Invariant { .. }), "{error}");
        }
    }

    #[test]
    fn every_broken_topic_is_noticed() {
        let breaks: [fn(&mut Topic); 4] = [
            |topic| topic.hash += 1,
            |topic| *topic.channels.get_mut("tail#ephemeral").unwrap() += 1,
            |topic| {
                topic.channels.remove("archive");
            },
            |topic| {
                topic.tombstones.insert(7, 0);
            },
        ];
        for (number, change) in breaks.iter().enumerate() {
            let mut db = registry();
            change(db.topics.get_mut("orders").unwrap());
            let error = db.check().expect_err(&format!("break {number}"));
            assert!(matches!(error, Error::Invariant { .. }), "{error}");
        }
    }

    #[test]
    fn a_broken_rule_stops_the_member_with_one_line() {
        let mut db = registry();
        db.attachments.clear();
        let detach = Event::Detach {
            producer: producer(),
            at: 0,
        };
        let error = apply(&mut db, detach).unwrap_err().to_string();
        let what = "invariant violated: attachment 0 is indexed but missing";
        assert!(error.starts_with(what), "{error}");
        assert!(error.contains("Restart this member"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
