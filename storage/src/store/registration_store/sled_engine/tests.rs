//! Tests what the registry store relies on: batches, steps, failed syncs, blob files, panics.

use std::path::Path;

use super::table::Pair;
use super::*;

fn open(data_path: &Path) -> Engine {
    Engine::open(&WriteGate::for_tests(data_path)).unwrap()
}

fn keys(table: &Table) -> Vec<Vec<u8>> {
    let pairs = table.range(b"", None);
    pairs.map(|pair| pair.unwrap().0).collect()
}

#[test]
fn keeps_what_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let table = engine.table("fruit").unwrap();
    table.insert(b"b", vec![2]).unwrap();
    table
        .batch([
            (b"a".to_vec(), Some(vec![1])),
            (b"c".to_vec(), Some(vec![3])),
            (b"b".to_vec(), None),
            (b"d".to_vec(), None),
        ])
        .unwrap();
    engine.sync().unwrap();
    drop((table, engine));

    let engine = open(folder.path());
    let table = engine.table("fruit").unwrap();
    assert_eq!(table.get(b"a").unwrap(), Some(vec![1]));
    assert_eq!(table.get(b"b").unwrap(), None);
    let found: Vec<Pair> = table
        .range(b"a", Some(b"c"))
        .map(|pair| pair.unwrap())
        .collect();
    assert_eq!(found, [(b"a".to_vec(), vec![1])]);
    assert_eq!(table.range(b"c", Some(b"a")).count(), 0);
    assert!(engine.size_on_disk().unwrap() > 0);
}

#[test]
fn removes_in_steps() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let table = engine.table("numbers").unwrap();
    let all = (0..10u8).map(|n| (vec![n], Some(vec![n])));
    table.batch(all).unwrap();
    assert_eq!(
        table.remove_some(&[1], Some(&[4]), 2).unwrap(),
        Some(vec![2])
    );
    assert_eq!(
        table.remove_some(&[1], Some(&[4]), 2).unwrap(),
        Some(vec![3])
    );
    assert_eq!(table.remove_some(&[1], Some(&[4]), 2).unwrap(), None);
    assert_eq!(keys(&table), [[0], [4], [5], [6], [7], [8], [9]]);
}

#[test]
fn a_dropped_table_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    engine
        .table("old")
        .unwrap()
        .insert(b"key", vec![1])
        .unwrap();
    assert!(engine.table_names().contains(&"old".to_string()));
    engine.drop_table("old").unwrap();
    assert!(!engine.table_names().contains(&"old".to_string()));
    assert_eq!(engine.table("old").unwrap().get(b"key").unwrap(), None);
}

#[test]
fn after_a_failed_sync_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let table = engine.table("fruit").unwrap();
    table.insert(b"a", vec![1]).unwrap();
    engine.0.syncer.break_sync();
    assert!(engine.sync().is_err());
    for outcome in [
        table.insert(b"b", vec![2]),
        table.batch([(b"b".to_vec(), Some(vec![2]))]),
        engine.sync(),
    ] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("until a restart"), "{error}");
    }
    assert_eq!(table.get(b"b").unwrap(), None);
}

#[test]
fn values_of_the_allowed_size_never_leave_the_synced_file() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    let table = engine.table("values").unwrap();
    let blobs = || {
        std::fs::read_dir(folder.path().join(FOLDER).join("blobs"))
            .unwrap()
            .count()
    };
    for round in 0..4u8 {
        for n in 0..500u32 {
            table
                .insert(&n.to_be_bytes(), vec![round; LARGEST_SMALL_VALUE])
                .unwrap();
        }
        let batch = (500..900u32).map(|n| {
            (
                n.to_be_bytes().to_vec(),
                Some(vec![round; LARGEST_SMALL_VALUE]),
            )
        });
        table.batch(batch).unwrap();
        engine.sync().unwrap();
        assert_eq!(blobs(), 0);
    }
    // A larger value does get there: the limit has a reason.
    table.insert(b"large", vec![1; 200_000]).unwrap();
    engine.sync().unwrap();
    assert_ne!(blobs(), 0);
}

#[test]
fn a_panic_while_reading_is_damage() {
    let error = guarded::<()>(Path::new("data"), || panic!("it broke")).unwrap_err();
    assert!(error.to_string().contains("(it broke)"), "{error}");
}
