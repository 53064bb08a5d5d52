//! Compares the registry with a naive model under random events: it must list the same, equal what
//! a restart would load, and ignore repeated and late batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

#[allow(unreachable_pub)] // the module is this test's own
mod model;

use std::collections::{BTreeMap, BTreeSet};

use model::{CHANNELS, LIFETIMES, Model, TOPICS, steps};
use proptest::prelude::*;
use raftlookupd_storage::event::Proposal;
use raftlookupd_storage::registration_db::{Name, RegistrationDb};
use raftlookupd_storage::rows::row_hash;

/// The registry equals what its rows describe.
fn assert_rows(db: &RegistrationDb) {
    let rows: BTreeMap<Vec<u8>, Vec<u8>> = db
        .rows()
        .map(|row| (row.key(), row.value().unwrap()))
        .collect();
    let sum = rows.iter().fold(0u128, |sum, (key, value)| {
        sum.wrapping_add(row_hash(key, value))
    });
    assert_eq!(sum, db.state_hash(), "the hash kept in step");
    let loaded = RegistrationDb::from_rows(rows.clone().into_iter().map(Ok)).unwrap();
    assert_eq!(loaded.state_hash(), db.state_hash());
    assert_eq!(loaded.totals(), db.totals());
    let again: BTreeMap<Vec<u8>, Vec<u8>> = loaded
        .rows()
        .map(|row| (row.key(), row.value().unwrap()))
        .collect();
    assert_eq!(again, rows);
}

fn assert_equals(model: &Model, db: &RegistrationDb) {
    for topic in TOPICS {
        let channels: Option<Vec<&str>> = db.channels(topic).map(Iterator::collect);
        let expected: Vec<&str> = CHANNELS
            .into_iter()
            .filter(|channel| model.is_listed(topic, Some(channel)))
            .collect();
        let listed = model.is_listed(topic, None);
        assert_eq!(channels, listed.then_some(expected), "channels of {topic}");
        let producers: Option<BTreeSet<String>> = db.producers(topic, LIFETIMES).map(|found| {
            let hosts = found.map(|view| view.id.broadcast_address.clone());
            hosts.collect()
        });
        let expected = listed.then(|| model.producers(topic));
        assert_eq!(producers, expected, "producers of {topic}");
    }
    assert_eq!(db.totals().claims, model.claims.len());
    assert_eq!(db.totals().attachments, model.attachments.len());
    assert_eq!(db.totals().channels, model.channels());
}

/// What a member finds recorded, in pages of any size.
fn assert_recorded(model: &Model, db: &RegistrationDb) {
    for (host, member) in model.attachments.keys() {
        let producer = model::producer(*host);
        let expected = model.claims_of(*host, *member);
        for (topic, channel) in &expected {
            assert!(db.is_recorded(*member, &producer, topic, channel.as_deref()));
        }
        for most in [1, 2, 7] {
            let mut found: Vec<Name> = Vec::new();
            loop {
                let page = db.recorded_after(*member, &producer, found.last(), most);
                assert!(page.len() <= most);
                if page.is_empty() {
                    break;
                }
                found.extend(page);
            }
            let found: Vec<(String, Option<String>)> = found
                .iter()
                .map(|(topic, channel)| {
                    (topic.to_string(), channel.as_ref().map(|c| c.to_string()))
                })
                .collect();
            assert_eq!(found, expected, "{most} at a time");
        }
    }
}

proptest! {
    #[test]
    fn the_registry_lists_what_the_model_lists(steps in steps()) {
        let mut model = Model::default();
        let mut db = RegistrationDb::new();
        for step in &steps {
            if let Some(proposal) = model.step(step) {
                db.apply(&proposal).unwrap();
            }
            assert_equals(&model, &db);
        }
        assert_rows(&db);
        assert_recorded(&model, &db);
    }

    #[test]
    fn what_expires_is_found_and_nothing_else(steps in steps()) {
        let mut model = Model::default();
        let mut db = RegistrationDb::new();
        for step in &steps {
            if let Some(proposal) = model.step(step) {
                db.apply(&proposal).unwrap();
            }
            let found: BTreeSet<String> = db
                .expirable(u64::MAX, None, usize::MAX)
                .0
                .into_iter()
                .map(|(producer, _)| producer.broadcast_address)
                .collect();
            prop_assert_eq!(found, model.expirable());
            let names: BTreeSet<(String, String, Option<String>)> = db
                .expirable_names(None, usize::MAX)
                .0
                .into_iter()
                .map(|found| {
                    let (topic, channel) = found.name;
                    let host = found.producer.broadcast_address;
                    (host, topic.to_string(), channel.map(|channel| channel.to_string()))
                })
                .collect();
            prop_assert_eq!(names, model.expirable_names());
        }
    }

    #[test]
    fn repeated_and_late_batches_change_nothing(
        steps in steps(),
        repeats in proptest::collection::vec((any::<prop::sample::Index>(), 1..4usize), 0..40),
    ) {
        let mut model = Model::default();
        let proposals: Vec<Proposal> = steps
            .iter()
            .filter_map(|step| model.step(step))
            .collect();
        let batches = |index: usize| Proposal {
            batches: proposals[index].batches.clone(),
            own: Vec::new(),
        };
        let mut once = RegistrationDb::new();
        for proposal in &proposals {
            once.apply(proposal).unwrap();
        }
        // The same, with batches repeated at once or later.
        let mut again = RegistrationDb::new();
        for (position, proposal) in proposals.iter().enumerate() {
            again.apply(proposal).unwrap();
            for (index, times) in &repeats {
                let repeated = index.index(proposals.len());
                if repeated <= position {
                    for _ in 0..*times {
                        again.apply(&batches(repeated)).unwrap();
                    }
                }
            }
        }
        prop_assert_eq!(once.state_hash(), again.state_hash());
        assert_equals(&model, &again);
    }
}
