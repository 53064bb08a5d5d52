//! Members die, restart, lose their disks; what was acknowledged stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::cluster::Cluster;
use support::member::Member;
use support::nsqd::Nsqd;
use support::{free_port, http, wait_for, wait_until};

/// Where a member listens; what the load needs of it while others kill it.
#[derive(Clone, Copy)]
struct Ports {
    tcp: u16,
    http: u16,
}

/// A steady stream of registrations and lookups, and what became of it.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    /// Topics whose REGISTER was answered `OK`.
    acknowledged: Mutex<Vec<String>>,
    refused: AtomicUsize,
    lookups: AtomicUsize,
    stale: AtomicUsize,
    violations: Mutex<Vec<String>>,
}

/// Ends the load when it goes out of scope, so that a failed test does not wait for it for ever.
struct Ending<'a>(&'a Load);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Registers one topic after the other at one member; the session stays open. An nsqd whose
    /// connection breaks connects again and repeats everything, as a real one does.
    fn register(&self, at: Ports, host: &str) {
        let mut own: Vec<String> = Vec::new();
        let mut session: Option<Nsqd> = None;
        let mut number = 0;
        while !self.is_over() {
            let Some(nsqd) = session.as_mut() else {
                session = Nsqd::identified(at.tcp, host).ok();
                if let Some(nsqd) = session.as_mut() {
                    let repeated = own.iter().all(|topic| nsqd.register(topic, "").is_ok());
                    if !repeated || nsqd.command("PING").is_err() {
                        session = None;
                    }
                }
                std::thread::yield_now();
                continue;
            };
            number += 1;
            let topic = format!("{host}-{number}");
            own.push(topic.clone());
            match nsqd.register(&topic, "").as_deref() {
                Ok("OK") => self.acknowledged.lock().unwrap().push(topic),
                Ok(_) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => session = None,
            }
        }
        // The session must outlive the checks: it closes with the process of the test.
        std::mem::forget(session);
    }

    /// Asks one surviving member for what was acknowledged, newest and random.
    fn look_up(&self, at: Ports) {
        let mut turn: usize = 7;
        while !self.is_over() {
            let topic = {
                let acknowledged = self.acknowledged.lock().unwrap();
                if acknowledged.is_empty() {
                    continue;
                }
                turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let back = (turn >> 33) % acknowledged.len().min(50);
                acknowledged[acknowledged.len() - 1 - back].clone()
            };
            let started = Instant::now();
            let answer = http::request(at.http, "GET", &format!("/lookup?topic={topic}"));
            let took = started.elapsed();
            self.lookups.fetch_add(1, Ordering::Relaxed);
            let problem = match answer {
                None => Some("no answer".to_string()),
                Some(_) if took > Duration::from_secs(3) => Some(format!("took {took:?}")),
                Some(answer) if answer.is_stale() => {
                    self.stale.fetch_add(1, Ordering::Relaxed);
                    None
                }
                Some(answer) if answer.status == 200 && answer.body.contains("\"h") => None,
                Some(answer) => Some(format!("{} {}", answer.status, answer.body)),
            };
            if let Some(problem) = problem {
                let violation = format!("{topic} at {}: {problem}", at.http);
                self.violations.lock().unwrap().push(violation);
            }
        }
    }
}

fn ports(member: &Member) -> Ports {
    Ports {
        tcp: member.tcp,
        http: member.http,
    }
}

#[test]
fn no_acknowledged_registration_is_missing_while_members_are_killed() {
    let mut cluster = Cluster::start(3, &[]);
    // A follower first, then the leader, then whoever is left.
    let leader = cluster.leader();
    let mut order: Vec<usize> = (0..3).collect();
    order.sort_by_key(|member| (*member == leader, *member));
    order.swap(1, 2);

    for victim in order {
        let load = Load::default();
        let survivors: Vec<Ports> = (0..3)
            .filter(|member| *member != victim)
            .map(|member| ports(&cluster.members[member]))
            .collect();
        std::thread::scope(|threads| {
            let _ending = Ending(&load);
            for (number, at) in survivors.iter().enumerate() {
                let (load, at) = (&load, *at);
                threads.spawn(move || load.register(at, &format!("h{victim}{number}")));
                threads.spawn(move || load.look_up(at));
            }
            let count = || load.acknowledged.lock().unwrap().len();
            wait_until("registrations before the kill", || count() > 100);
            cluster.members[victim].kill();
            let before = count();
            wait_until("registrations after the kill", || count() > before + 200);
            cluster.members[victim].start();
            cluster.members[victim].wait_ready();
            let before = count();
            wait_until("registrations after the restart", || count() > before + 50);
        });
        let violations = load.violations.into_inner().unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
        assert!(load.lookups.into_inner() > 50);

        let acknowledged = load.acknowledged.into_inner().unwrap();
        for member in &cluster.members {
            let topics = member
                .get("/topics?consistency=linearizable")
                .unwrap()
                .json();
            let listed: Vec<&str> = topics["topics"]
                .as_array()
                .unwrap()
                .iter()
                .map(|topic| topic.as_str().unwrap())
                .collect();
            for topic in &acknowledged {
                assert!(
                    listed.contains(&topic.as_str()),
                    "{topic} at {}",
                    member.name
                );
            }
        }
    }
    let hashes = cluster.state_hashes();
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "{hashes:?}"
    );
}

#[test]
fn everything_is_back_after_all_members_were_killed() {
    let mut cluster = Cluster::start(3, &[]);
    let mut nsqd = cluster.members[1].nsqd("h1");
    for number in 0..50 {
        nsqd.registered(&format!("t{number}"), "billing");
    }
    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.start();
    }
    for member in &cluster.members {
        member.wait_ready();
        // No nsqd has connected again.
        for number in 0..50 {
            assert_eq!(member.lookup(&format!("t{number}")).unwrap(), ["h1"]);
        }
        let channels = member.get("/channels?topic=t7").unwrap();
        assert_eq!(channels.body, r#"{"channels":["billing"]}"#);
    }
}

#[test]
fn a_cluster_of_one_remembers() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.members[0].args.clear();
    let mut nsqd = cluster.members[0].nsqd("h1");
    nsqd.registered("orders", "billing");
    cluster.members[0].kill();
    cluster.members[0].start();
    cluster.members[0].wait_ready();
    assert_eq!(cluster.members[0].lookup("orders").unwrap(), ["h1"]);
}

#[test]
fn a_graceful_stop_detaches_nothing_and_hands_leadership_on() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.leader();
    let mut nsqd = cluster.members[leader].nsqd("h1");
    nsqd.registered("orders", "");
    let stopped = Instant::now();
    assert_eq!(cluster.members[leader].terminate(), Some(0));
    let took = stopped.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let survivor = (leader + 1) % 3;
    let mut writer = cluster.members[survivor].nsqd("h2");
    wait_until("a write after the leader has left", || {
        writer.register("mails", "").unwrap() == "OK"
    });
    assert_eq!(cluster.members[survivor].lookup("orders").unwrap(), ["h1"]);
}

#[test]
fn a_member_out_of_date_catches_up_by_snapshot() {
    let mut cluster = Cluster::start(3, &["--snapshot-count=40"]);
    let away = (cluster.leader() + 1) % 3;
    let present = (away + 1) % 3;
    cluster.members[away].kill();
    fill(&cluster.members[present]);
    cluster.members[away].start();
    cluster.members[away].wait_ready();
    wait_until("it says so", || {
        cluster.members[away].log().contains("snapshot installed")
    });
    assert_eq!(cluster.members[away].lookup("t150").unwrap(), ["h1"]);
    let hashes = cluster.state_hashes();
    assert!(
        hashes.windows(2).all(|pair| pair[0] == pair[1]),
        "{hashes:?}"
    );
}

#[test]
fn a_member_that_lost_its_disk_comes_back_as_a_new_one() {
    let mut cluster = Cluster::start(3, &["--snapshot-count=40"]);
    let lost = (cluster.leader() + 1) % 3;
    let present = (lost + 1) % 3;
    let old_id = cluster.members[lost].status().unwrap()["id"].clone();
    fill(&cluster.members[present]);
    cluster.members[lost].wipe();
    cluster.members[lost].start();
    cluster.members[lost].wait_ready();
    assert_eq!(cluster.members[lost].lookup("t150").unwrap(), ["h1"]);

    let status = wait_for("it votes in place of what it was", || {
        let status = cluster.members[present].status()?;
        let members = status["members"].as_array()?;
        let all_vote = members.iter().all(|member| member["voter"] == true);
        (members.len() == 3 && all_vote && members.iter().all(|member| member["id"] != old_id))
            .then_some(status)
    });
    assert_ne!(cluster.members[lost].status().unwrap()["id"], old_id);
    // It counts: the cluster survives the death of another member.
    let other = (0..3)
        .find(|other| ![lost, present].contains(other))
        .unwrap();
    cluster.members[other].kill();
    let mut nsqd = cluster.members[lost].nsqd("h2");
    wait_until("a write with the new member's vote", || {
        nsqd.register("after", "").unwrap() == "OK"
    });
    drop(status);
}

/// A member is killed and comes back where nobody looks for it.
fn is_found_at_another_address(cluster: &mut Cluster, moved: usize) {
    let present = (moved + 1) % 3;
    cluster.members[moved].kill();
    cluster.members[moved].peer = free_port();
    let address = format!("127.0.0.1:{}", cluster.members[moved].peer);
    cluster.members[moved].start();
    wait_until("the others know the new address", || {
        let status = cluster.members[present].status();
        status.is_some_and(|status| status["members"].to_string().contains(&address))
    });
    cluster.members[moved].wait_ready();
    // It counts: the cluster survives the death of the third member.
    let third = 3 - moved - present;
    cluster.members[third].kill();
    let mut nsqd = cluster.members[present].nsqd("h1");
    wait_until("a write with its vote", || {
        nsqd.register("orders", "").unwrap() == "OK"
    });
    assert_eq!(cluster.members[moved].lookup("orders").unwrap(), ["h1"]);
}

#[test]
fn a_member_that_comes_back_at_another_address_is_found() {
    let mut cluster = Cluster::start(3, &[]);
    let moved = (cluster.leader() + 1) % 3;
    is_found_at_another_address(&mut cluster, moved);
}

/// Nobody tells it who leads now.
#[test]
fn a_leader_that_comes_back_at_another_address_is_found() {
    let mut cluster = Cluster::start(3, &[]);
    let moved = cluster.leader();
    is_found_at_another_address(&mut cluster, moved);
}

/// Enough registrations, one log entry each, to have the log purged a few times.
fn fill(member: &Member) {
    let mut nsqd = member.nsqd("h1");
    for number in 0..200 {
        nsqd.registered(&format!("t{number}"), "");
    }
    wait_until("the log was purged", || {
        member
            .status()
            .is_some_and(|status| status["purged_index"].as_u64() > Some(100))
    });
    std::mem::forget(nsqd);
}
