//! One fault at a time: members that hang, that lose the others, or that only one side can reach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use support::faults::Faulty;
use support::load::lists;
use support::member::Member;
use support::nsqd::Nsqd;
use support::proxy::Link;
use support::{wait_for, wait_until};

/// nsqd gives a lookupd one second for each command.
const NSQD_WAITS: Duration = Duration::from_millis(900);

/// An election takes a second. A machine that is busy with other things is given much more: what
/// hangs does so for longer.
const FAILOVER: Duration = Duration::from_secs(15);

/// The tests measure times, so they do not run side by side.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Three members and the leader's number.
fn start() -> (Faulty, usize) {
    let faulty = Faulty::start(&[]);
    let leader = faulty.cluster.leader();
    (faulty, leader)
}

/// A default lookup; it never waits for longer than a second.
#[track_caller]
fn look(member: &Member, topic: &str, host: &str) -> Seen {
    let started = Instant::now();
    let answer = member.get(&format!("/lookup?topic={topic}")).unwrap();
    let took = started.elapsed();
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert!([200, 404].contains(&answer.status), "{}", answer.head);
    match answer.is_stale() {
        true => Seen::Stale,
        false if lists(&answer, host) => Seen::Listed,
        false => Seen::Hidden,
    }
}

/// What a default lookup says of one nsqd.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Listed,
    Hidden,
    /// Marked stale: it promises nothing.
    Stale,
}

/// How long it takes until a new nsqd has registered a topic here.
fn time_to_register(member: &Member, host: &str, topic: &str) -> (Nsqd, Duration) {
    let started = Instant::now();
    let mut nsqd = member.nsqd(host);
    nsqd.registered(topic, "");
    (nsqd, started.elapsed())
}

#[track_caller]
fn all_hold_the_same(faulty: &Faulty) {
    let hashes = faulty.cluster.state_hashes();
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "{hashes:?}"
    );
}

#[test]
fn a_paused_leader_is_replaced_and_does_not_lie_when_it_goes_on() {
    let _alone = alone();
    for round in 0..3 {
        let (faulty, leader) = start();
        let members = &faulty.cluster.members;
        let mut before = members[(leader + 1) % 3].nsqd("h1");
        before.registered("before", "");
        faulty.pause(leader);
        let (mut nsqd, took) = time_to_register(&members[(leader + 2) % 3], "h2", "during");
        assert!(took < FAILOVER, "round {round}: {took:?}");
        assert_eq!(before.command("UNREGISTER before").unwrap(), "OK");
        faulty.resume(leader);
        // It believes at first that it leads.
        for _ in 0..50 {
            let during = look(&members[leader], "during", "h2");
            assert_ne!(during, Seen::Hidden, "round {round}");
            let before = look(&members[leader], "before", "h1");
            assert_ne!(before, Seen::Listed, "round {round}");
        }
        wait_until("it follows", || {
            look(&members[leader], "during", "h2") == Seen::Listed
        });
        assert_eq!(nsqd.command("PING").unwrap(), "OK");
        all_hold_the_same(&faulty);
    }
}

/// How often the member has said that another one is away.
fn away(member: &Member, other: &Member) -> usize {
    let log = member.log();
    let lines = log.lines().filter(|line| line.contains("member away: "));
    let name = format!("member={}", other.name);
    lines
        .filter(|line| line.split_whitespace().any(|word| word == name))
        .count()
}

/// A process that was stopped has heard nobody, but not because they were silent.
#[test]
fn who_was_stopped_takes_nobody_for_dead() {
    /// Longer than it takes to be found away.
    const STOPPED: Duration = Duration::from_secs(5);
    let _alone = alone();
    let (faulty, leader) = start();
    let members = &faulty.cluster.members;
    let [one, other] = [(leader + 1) % 3, (leader + 2) % 3];
    faulty.pause(leader);
    wait_until("its successor records that the leader is away", || {
        away(&members[one], &members[leader]) == 1 && away(&members[other], &members[leader]) == 1
    });
    faulty.resume(leader);
    let back = |member: &Member| member.log().contains("member back");
    wait_until("it is back", || {
        back(&members[one]) && back(&members[other])
    });
    for member in members {
        for taken in [one, other] {
            let member_name = &member.name;
            assert_eq!(away(member, &members[taken]), 0, "{member_name}");
        }
    }

    let all = || -> usize {
        let pairs = members
            .iter()
            .flat_map(|member| members.iter().map(move |of| (member, of)));
        pairs.map(|(member, of)| away(member, of)).sum()
    };
    let before = all();
    (0..3).for_each(|member| faulty.pause(member));
    std::thread::sleep(STOPPED);
    (0..3).for_each(|member| faulty.resume(member));
    let started = Instant::now();
    while started.elapsed() < STOPPED {
        time_to_register(&members[one], "h1", "orders").0.leave();
    }
    assert_eq!(all(), before);
}

/// What a member has sent to a leader that hangs, it sends to the next one as soon as it knows it.
#[test]
fn what_is_under_way_to_a_leader_that_hangs_goes_to_the_next_one() {
    let _alone = alone();
    for round in 0..3 {
        let (faulty, leader) = start();
        let members = &faulty.cluster.members;
        let member = &members[(leader + 1) % 3];
        let mut nsqd = member.nsqd("h1");
        nsqd.registered("before", "");
        let id = |member: &Member| member.status().unwrap()["leader"].as_u64();
        let hanging = id(member);
        faulty.pause(leader);
        let answer = nsqd.register("during", "").unwrap();
        assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");
        let known = wait_for("another leader is known", || {
            let leader = id(member);
            (leader.is_some() && leader != hanging).then(Instant::now)
        });
        let target = "/lookup?topic=during&consistency=stale";
        wait_until("it is registered", || {
            member.get(target).is_some_and(|found| lists(&found, "h1"))
        });
        let took = known.elapsed();
        assert!(took < Duration::from_millis(500), "round {round}: {took:?}");
        faulty.resume(leader);
    }
}

#[test]
fn a_leader_without_a_quorum_says_so_and_the_others_go_on() {
    let _alone = alone();
    let (faulty, leader) = start();
    let members = &faulty.cluster.members;
    let mut old = members[leader].nsqd("h1");
    old.registered("before", "");
    faulty.links.around(leader, Link::Cut, Link::Cut);
    // What is acknowledged elsewhere is never denied by an answer that is not marked.
    let (_nsqd, took) = time_to_register(&members[(leader + 1) % 3], "h2", "during");
    assert!(took < FAILOVER, "{took:?}");
    for _ in 0..5 {
        assert_eq!(look(&members[leader], "during", "h2"), Seen::Stale);
    }
    let strict = members[leader].get("/lookup?topic=before&consistency=linearizable");
    let strict = strict.unwrap();
    assert_eq!(strict.status, 503, "{}", strict.body);
    let refused = members[leader].post("/topic/create?topic=refused").unwrap();
    assert_eq!(refused.status, 503, "{}", refused.body);
    let answer = old.register("later", "").unwrap();
    assert!(answer.starts_with("E_UNAVAILABLE"), "{answer}");

    faulty.links.heal();
    wait_until("it is back, and records what it could not before", || {
        let listed = |member| look(member, "later", "h1") == Seen::Listed;
        members.iter().all(listed)
    });
    let refused = members[leader].get("/lookup?topic=refused").unwrap();
    assert_eq!(refused.status, 404, "nothing half done");
    assert_eq!(look(&members[leader], "during", "h2"), Seen::Listed);
    all_hold_the_same(&faulty);
}

#[test]
fn a_leader_that_can_dial_nobody_is_replaced() {
    let _alone = alone();
    let (faulty, leader) = start();
    let members = &faulty.cluster.members;
    faulty.links.around(leader, Link::Pass, Link::Cut);
    let (_nsqd, took) = time_to_register(&members[(leader + 1) % 3], "h1", "during");
    assert!(took < FAILOVER, "{took:?}");
    for _ in 0..5 {
        assert_ne!(look(&members[leader], "during", "h1"), Seen::Hidden);
    }
    faulty.links.heal();
    wait_until("it is back", || {
        look(&members[leader], "during", "h1") == Seen::Listed
    });
    all_hold_the_same(&faulty);
}

#[test]
fn a_leader_that_nobody_can_dial_denies_nothing() {
    let _alone = alone();
    let (faulty, leader) = start();
    let members = &faulty.cluster.members;
    let follower = &members[(leader + 1) % 3];
    let mut nsqd = follower.nsqd("h1");
    nsqd.registered("orders", "");
    faulty.links.around(leader, Link::Cut, Link::Pass);
    // It still leads, since its followers hear it; they cannot ask it.
    let (_other, took) = time_to_register(&members[leader], "h2", "during");
    assert!(took < FAILOVER, "{took:?}");
    for _ in 0..5 {
        assert_ne!(look(follower, "during", "h2"), Seen::Hidden);
        assert_ne!(look(follower, "orders", "h1"), Seen::Hidden);
    }
    faulty.links.heal();
    nsqd.registered("after", "");
    wait_until("its followers reach it again", || {
        look(follower, "during", "h2") == Seen::Listed
    });
    all_hold_the_same(&faulty);
}

#[test]
fn connections_that_died_silently_are_given_up() {
    let _alone = alone();
    let (faulty, leader) = start();
    let members = &faulty.cluster.members;
    let follower = (leader + 1) % 3;
    let mut nsqd = members[follower].nsqd("h1");
    nsqd.registered("before", "");
    // All that is sent now is lost, and these connections will never carry anything again.
    faulty.links.around(follower, Link::Stall, Link::Stall);
    wait_until("the follower notices", || {
        look(&members[follower], "before", "h1") == Seen::Stale
    });
    faulty.links.heal();
    let healed = Instant::now();
    nsqd.registered("after", "");
    let took = healed.elapsed();
    assert!(took < FAILOVER, "{took:?}");
    for member in members {
        wait_until("all is well", || {
            look(member, "after", "h1") == Seen::Listed
        });
    }
    let took = healed.elapsed();
    assert!(took < FAILOVER, "{took:?}");
    all_hold_the_same(&faulty);
}

#[test]
fn a_member_that_was_cut_off_catches_up() {
    let _alone = alone();
    let (faulty, leader) = start();
    let members = &faulty.cluster.members;
    let away = (leader + 1) % 3;
    let present = (leader + 2) % 3;
    let mut gone = members[present].nsqd("h1");
    gone.registered("gone", "");
    faulty.links.around(away, Link::Cut, Link::Cut);
    let mut nsqd = members[present].nsqd("h2");
    for number in 0..100 {
        nsqd.registered(&format!("t{number}"), "billing");
    }
    gone.leave();
    assert_eq!(look(&members[away], "gone", "h1"), Seen::Stale);
    faulty.links.heal();
    wait_until("it is back", || {
        look(&members[away], "t99", "h2") == Seen::Listed
    });
    for number in 0..100 {
        let topic = format!("t{number}");
        assert_eq!(look(&members[away], &topic, "h2"), Seen::Listed, "{topic}");
    }
    assert_eq!(look(&members[away], "gone", "h1"), Seen::Hidden);
    all_hold_the_same(&faulty);
}

#[test]
fn slow_links_only_make_it_slower() {
    let _alone = alone();
    let (faulty, leader) = start();
    // There and back again it is longer than a heartbeat interval, which is all that openraft
    // gives a follower to answer.
    let slow = Link::Slow(Duration::from_millis(80));
    for member in 0..3 {
        faulty.links.around(member, slow, slow);
    }
    let members = &faulty.cluster.members;
    let mut nsqd = members[(leader + 1) % 3].nsqd("h1");
    for number in 0..5 {
        nsqd.registered(&format!("t{number}"), "");
    }
    for member in members {
        wait_until("an answer that is not marked stale", || {
            let seen = look(member, "t4", "h1");
            assert_ne!(seen, Seen::Hidden);
            seen == Seen::Listed
        });
    }
}

/// Every command is answered in time by this member, whatever it can or cannot do, and PING at
/// once.
#[track_caller]
fn answers_in_time(member: &Member, established: &mut Nsqd, state: &str) {
    let in_time = |what: &str, most: Duration, started: Instant| {
        let took = started.elapsed();
        assert!(took < most, "{what}, {state}: {took:?}");
    };
    for number in 0..3 {
        let started = Instant::now();
        established.command("PING").unwrap();
        in_time("PING", NSQD_WAITS / 3, started);
        for line in [
            format!("REGISTER new{number} billing"),
            "REGISTER orders".to_string(),
            format!("UNREGISTER new{number} billing"),
        ] {
            let started = Instant::now();
            let answer = established.command(&line).unwrap();
            in_time(&line, NSQD_WAITS, started);
            assert!(answer.starts_with("E_UNAVAILABLE"), "{line}: {answer}");
        }
        let mut fresh = Nsqd::connect(member.tcp).unwrap();
        let started = Instant::now();
        let answer = fresh.identify(&format!("fresh{number}")).unwrap();
        in_time("IDENTIFY", NSQD_WAITS, started);
        assert!(answer.starts_with('{'), "{answer}");
        let started = Instant::now();
        fresh.command("PING").unwrap();
        in_time("the first PING", NSQD_WAITS / 3, started);
    }
}

#[test]
fn nsqd_is_answered_in_time_in_every_state() {
    let _alone = alone();
    let (mut faulty, leader) = start();
    let follower = (leader + 1) % 3;
    let third = (leader + 2) % 3;
    let mut nsqd = faulty.cluster.members[follower].nsqd("h1");
    nsqd.registered("orders", "");

    faulty.links.around(follower, Link::Cut, Link::Cut);
    answers_in_time(&faulty.cluster.members[follower], &mut nsqd, "cut off");
    faulty.links.heal();
    nsqd.registered("between", "");

    faulty.links.around(follower, Link::Stall, Link::Stall);
    answers_in_time(&faulty.cluster.members[follower], &mut nsqd, "stalled");
    faulty.links.heal();
    nsqd.registered("again", "");

    for other in [leader, third] {
        faulty.pause(other);
    }
    answers_in_time(&faulty.cluster.members[follower], &mut nsqd, "paused");
    for other in [leader, third] {
        faulty.resume(other);
    }
    nsqd.registered("afterwards", "");

    for other in [leader, third] {
        faulty.kill(other);
    }
    answers_in_time(&faulty.cluster.members[follower], &mut nsqd, "alone");
}
