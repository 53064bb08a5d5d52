//! What the owner gives a command, and how many sessions an nsqd may have.

use std::time::Duration;

use raftlookupd::nsqd::owner::{CloseReason, Effect, Now, Owner, Reply, SessionId, Settings};
use raftlookupd_raft::owner::Room;
use raftlookupd_raft::storage::registration::{PeerInfo, ProducerId};
use raftlookupd_raft::storage::registration_db::RegistrationDb;

const ROOM: Room = Room {
    first: 0,
    events: 4096,
    bytes: 128 * 1024,
};

fn at(seconds: u64) -> Now {
    Now {
        moment: Duration::from_secs(seconds),
        clock: 1_000 * seconds,
    }
}

fn identify(owner: &mut Owner, now: Now) -> SessionId {
    let nsqd = ProducerId {
        broadcast_address: "h1".into(),
        tcp_port: 4150,
    };
    let remote = format!("10.0.0.1:{}", now.clock);
    owner
        .identify(now, nsqd, PeerInfo::default(), remote, true)
        .0
}

fn patience(reply: Reply) -> Duration {
    match reply {
        Reply::Wait(_, patience) | Reply::Confirm(_, patience) => patience,
        Reply::Now(verdict) => panic!("answered at once: {verdict:?}"),
    }
}

#[test]
fn the_session_that_is_silent_for_longest_is_closed_if_there_are_too_many() {
    let mut owner = Owner::new(Settings::with_timeout(Duration::from_secs(300)));
    let sessions: Vec<SessionId> = (1..=64).map(|n| identify(&mut owner, at(n))).collect();
    owner.ping(at(65), sessions[0], true);
    owner.take_effects();
    identify(&mut owner, at(66));
    let closed = Effect::Close(sessions[1], CloseReason::TooManySessions);
    assert!(owner.take_effects().contains(&closed));
}

/// nsqd serves its lookupds one after another: one that cannot commit must not take half a second
/// for each command.
#[test]
fn after_a_command_that_was_overdue_others_wait_shortly_until_a_batch_is_committed() {
    let settings = Settings::with_timeout(Duration::from_secs(300));
    let db = RegistrationDb::new();
    let mut owner = Owner::new(settings);
    owner.begin(at(0), 1, 1, false);
    let session = identify(&mut owner, at(0));
    let waits = owner.register(at(0), session, "orders", None, Some(&db), true);
    assert_eq!(patience(waits), settings.patience);
    let Reply::Wait(ticket, _) = waits else {
        panic!("{waits:?}");
    };
    owner.expire(ticket);
    for _ in 0..3 {
        let waits = owner.unregister(at(1), session, "mails", None, Some(&db), true);
        assert_eq!(patience(waits), settings.patience_when_late);
        let waits = owner.register(at(1), session, "orders", None, Some(&db), true);
        assert_eq!(patience(waits), settings.patience_when_late);
    }
    assert!(!owner.propose(at(2), 2, ROOM, &db).is_empty());
    owner.committed(2, &[]);
    let waits = owner.register(at(2), session, "orders", None, Some(&db), true);
    assert_eq!(patience(waits), settings.patience);
}
