//! Tests generations from the inside: installations, interruptions, leftovers, damage.

use super::*;
use crate::registry::event::{Event, MemberBatch, Proposal};
use crate::registry::rows::Row;
use crate::store::Store;

/// A registry with this many topics.
fn registry(topics: u64) -> RegistrationDb {
    let events = (0..topics).map(|number| Event::CreateTopic {
        topic: format!("topic-{number}"),
    });
    let mut db = RegistrationDb::new();
    let batch = MemberBatch {
        member: 1,
        incarnation: 1,
        sequence: 1,
        at: 0,
        events: events.collect(),
    };
    db.apply(&Proposal {
        batches: vec![batch],
        ..Proposal::default()
    })
    .unwrap();
    db
}

fn install(store: &RegistrationStore, topics: u64) {
    let db = registry(topics);
    let mark = topics.to_be_bytes();
    store.install(&db, &mark).unwrap();
}

fn assert_holds(store: &RegistrationStore, topics: u64) {
    let loaded = store.load().unwrap().unwrap();
    assert_eq!(loaded.mark, topics.to_be_bytes());
    assert_eq!(loaded.db.state_hash(), registry(topics).state_hash());
}

fn engine(store: &RegistrationStore) -> Engine {
    store.0.current().engine.clone()
}

fn generations(store: &RegistrationStore) -> Vec<u64> {
    let names = engine(store).table_names();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort();
    numbers
}

#[test]
fn an_installation_replaces_everything() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(folder.path()).unwrap();
    let store = opened.registrations();
    install(&store, 1000);
    assert_holds(&store, 1000);
    install(&store, 3);
    assert_holds(&store, 3);
    store.0.sweeper.finish();
    assert_eq!(generations(&store), [2]);
    drop((store, opened));
    assert_holds(&Store::open(folder.path()).unwrap().registrations(), 3);
}

#[test]
fn an_interrupted_installation_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(folder.path()).unwrap();
    let store = opened.registrations();
    install(&store, 3);
    // A generation is complete except for the write that makes it current, and another is half
    // written.
    let db = registry(1000);
    let whole = Generation::create(&engine(&store)).unwrap();
    whole.fill(&db, b"new").unwrap();
    engine(&store).sync().unwrap();
    let half = Generation::create(&engine(&store)).unwrap();
    for row in db.rows_beside_topics() {
        half.rows.insert(&row.key(), row.value().unwrap()).unwrap();
    }
    drop((whole, half, store, opened));

    let opened = Store::open(folder.path()).unwrap();
    let store = opened.registrations();
    assert_holds(&store, 3);
    assert_eq!(generations(&store), [1, 2, 3]);
    // The next installation does not collide with them.
    install(&store, 5);
    assert_holds(&store, 5);
    store.0.sweeper.finish();
    assert_eq!(generations(&store), [4]);
}

#[test]
fn leftovers_go_with_the_first_write() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(folder.path()).unwrap();
    let store = opened.registrations();
    let leftover = Generation::create(&engine(&store)).unwrap();
    leftover.rows.insert(b"t", vec![1]).unwrap();
    assert!(store.load().unwrap().is_none());
    let db = RegistrationDb::new();
    let due = store.note(&db, Vec::new(), b"mark");
    assert!(!due);
    store.write(&db).unwrap();
    store.0.sweeper.finish();
    assert_eq!(generations(&store), [2]);
    assert_eq!(store.load().unwrap().unwrap().mark, b"mark");
}

#[test]
fn a_topic_that_was_deleted_and_came_back_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(folder.path()).unwrap();
    let store = opened.registrations();
    let (mut db, mut sequence) = (RegistrationDb::new(), 0u64);
    let mut apply = |events: Vec<Event>| {
        sequence += 1;
        let batch = MemberBatch {
            member: 1,
            incarnation: 1,
            sequence,
            at: 0,
            events,
        };
        let proposal = Proposal {
            batches: vec![batch],
            ..Proposal::default()
        };
        let applied = db.apply(&proposal).unwrap();
        let mark = sequence.to_be_bytes();
        if store.note(&db, applied.changes, &mark) {
            store.write(&db).unwrap();
        }
    };
    let topic = || "orders".to_string();
    let channels = (0..500).map(|number| Event::CreateChannel {
        topic: topic(),
        channel: format!("channel-{number}"),
    });
    apply(channels.collect());
    // Enough changes for the topic to be written.
    apply(vec![
        Event::CreateTopic {
            topic: "more".into()
        };
        2
    ]);
    apply(
        (0..600)
            .map(|number| Event::CreateTopic {
                topic: format!("t{number}"),
            })
            .collect(),
    );
    apply(vec![Event::DeleteTopic { topic: topic() }]);
    apply(vec![Event::CreateTopic { topic: topic() }]);
    store.write(&db).unwrap();
    let loaded = store.load().unwrap().unwrap();
    assert_eq!(loaded.db.state_hash(), db.state_hash());
}

#[test]
fn missing_changed_and_added_rows_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Store::open(folder.path()).unwrap();
    let store = opened.registrations();
    let topic = topic_pieces::first_key;
    let member = Row::Member(1, Default::default());
    let packed = registry(10).pack("topic-4").unwrap().unwrap();
    let whole = [&(packed.len() as u32).to_be_bytes(), packed.as_slice()].concat();
    let damages: [(Vec<u8>, Option<Vec<u8>>); 7] = [
        (topic("topic-4"), None),
        (topic("topic-x"), Some(whole)),
        (topic("topic-y"), Some(Vec::new())),
        (topic("topic-4"), Some(vec![1])),
        (member.key(), Some(member.value().unwrap())),
        (HEAD_KEY.to_vec(), None),
        (HEAD_KEY.to_vec(), Some(vec![1; 20])),
    ];
    for (key, value) in damages {
        install(&store, 10);
        let rows = match &store.0.current().generation {
            Some(generation) => generation.rows.clone(),
            None => panic!("it was installed"),
        };
        let damage = format!("{} {value:?}", key.escape_ascii());
        rows.batch([(key, value)]).unwrap();
        let error = store.load().expect_err(&damage);
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    }
}

#[test]
fn no_row_has_the_key_of_the_head() {
    assert!(Row::decode(HEAD_KEY, &[]).is_err());
}
