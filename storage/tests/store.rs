//! Tests opening a data path: what is refused, and with which message.
// Tests unwrap what they expect; clippy's exemption for tests does not cover helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;

use raftlookupd_storage::Error;
use raftlookupd_storage::log_table::StoredVote;
use raftlookupd_storage::record_file::RecordFile;
use raftlookupd_storage::store::{FORMAT, OLDEST_FORMAT, Store};
use support::{Feed, append, attach, claim, copy_folder, entry, load};

/// A store with entries up to `last` and a vote for `term`.
fn write(path: &Path, last: u64, term: u64) {
    let store = Store::open(path).unwrap();
    let log = store.log();
    let first = log.last().unwrap().map_or(0, |(index, _)| index + 1);
    append(&log, (first..=last).map(|index| entry(index, 50)).collect());
    log.save_vote(StoredVote {
        term,
        node_id: 2,
        committed: false,
    })
    .unwrap();
    store.close().unwrap();
}

fn refusal(path: &Path) -> String {
    let error = Store::open(path).err().expect("it was opened");
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn a_new_path_is_created_for_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deeper/data");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.data_path(), path);
    assert!(store.registrations().load().unwrap().is_none());
    assert!(store.disk_bytes().unwrap() > 0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let error = Store::open(folder.path()).err().unwrap();
    assert!(matches!(error, Error::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("is in use by another process"));
    // A handle that outlives the store still holds the lock.
    let log = store.log();
    drop(store);
    assert!(matches!(
        Store::open(folder.path()),
        Err(Error::Locked { .. })
    ));
    drop(log);
    Store::open(folder.path()).unwrap();
}

#[test]
fn an_unusable_path_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Store::open(&path).err().unwrap();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        let expected = format!("cannot create {}", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn other_formats_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 3, 1);
    let format = RecordFile::new(folder.path().join("format"));
    format.save(&(FORMAT + 1).to_be_bytes()).unwrap();
    let error = Store::open(folder.path()).err().unwrap();
    assert!(matches!(error, Error::NewerFormat { .. }), "{error:?}");
    let expected = format!(
        "has data of format {}, this version reads up to {FORMAT}",
        FORMAT + 1
    );
    assert!(error.to_string().contains(&expected), "{error}");
    format.save(&(OLDEST_FORMAT - 1).to_be_bytes()).unwrap();
    let error = Store::open(folder.path()).err().unwrap();
    assert!(error.to_string().contains("raftlookupd import"), "{error}");
    format.save(&FORMAT.to_be_bytes()).unwrap();
    Store::open(folder.path()).unwrap();
}

#[test]
fn missing_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    write(&good, 3, 1);
    for (name, expected) in [
        ("durable-mark", "`durable-mark` is missing"),
        ("format", "`format` is missing"),
        ("log", "`log` is missing"),
    ] {
        let bad = folder.path().join(format!("without-{name}"));
        copy_folder(&good, &bad);
        let missing = bad.join(name);
        std::fs::remove_file(&missing)
            .or_else(|_| std::fs::remove_dir_all(&missing))
            .unwrap();
        // Twice: a failed attempt must not repair it.
        for _ in 0..2 {
            let text = refusal(&bad);
            assert!(text.contains(expected), "{text}");
        }
    }
}

#[test]
fn an_interrupted_creation_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let remove = |names: &[&str]| {
        for name in names {
            let path = folder.path().join(name);
            std::fs::remove_file(&path)
                .or_else(|_| std::fs::remove_dir_all(&path))
                .unwrap();
        }
    };
    drop(Store::open(folder.path()).unwrap());
    // In the order of creation, from the end.
    for interrupted in [
        &["sled"][..],
        &["sled", "log/0000000000000001.log"],
        &["sled", "log"],
        &["sled", "log", "format"],
        &["sled", "log", "format", "durable-mark"],
    ] {
        remove(interrupted);
        drop(Store::open(folder.path()).unwrap());
    }
}

#[test]
fn an_older_copy_of_the_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let older = folder.path().join("older");
    write(&path, 10, 1);
    copy_folder(&path.join("log"), &older);
    write(&path, 20, 1);
    std::fs::remove_dir_all(path.join("log")).unwrap();
    copy_folder(&older, &path.join("log"));
    let text = refusal(&path);
    let expected = "entries up to 20 were durable, but the log ends at 10";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_purged_log_without_a_registry_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.log().purge(7, b"").unwrap();
    store.close().unwrap();
    // Twice: a failed attempt must not repair it.
    for _ in 0..2 {
        let store = Store::open(folder.path()).unwrap();
        let text = load(&store).unwrap_err().to_string();
        let expected = "it is empty, the log begins after entry 7";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("no whole snapshot file"), "{text}");
    }
}

#[test]
fn the_registry_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut feed = Feed::default();
    feed.apply(&store.registrations(), vec![attach()]);
    feed.apply(
        &store.registrations(),
        vec![claim("orders", Some("billing"))],
    );
    feed.write(&store.registrations());
    store.close().unwrap();

    let store = Store::open(folder.path()).unwrap();
    let loaded = store.registrations().load().unwrap().unwrap();
    assert_eq!(loaded.db.state_hash(), feed.db.state_hash());
    assert_eq!(loaded.mark, feed.mark());
}
