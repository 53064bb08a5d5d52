//! Data paths that are copied, put back to older copies, incomplete, or lost: of two processes of one
//! member at most one takes part, and nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::path::Path;
use std::time::Duration;

use raftlookupd_raft::storage::log_table::StoredVote;
use raftlookupd_raft::storage::store::Store;
use support::cluster::Cluster;
use support::member::Member;
use support::{wait_for, wait_until};

const COPY: &str = "copy of the other's data path";

/// Creates a topic and says whether that was acknowledged.
fn create(member: &Member, topic: &str) -> bool {
    let answer = member.post(&format!("/topic/create?topic={topic}"));
    answer.is_some_and(|answer| answer.status == 200)
}

#[track_caller]
fn must_create(member: &Member, topic: &str) {
    wait_until("a write", || create(member, topic));
}

fn topics(member: &Member) -> Vec<String> {
    let answer = wait_for("a linearizable answer", || {
        let answer = member.get("/topics?consistency=linearizable")?;
        (answer.status == 200).then_some(answer)
    });
    serde_json::from_value(answer.json()["topics"].clone()).unwrap()
}

fn id(member: &Member) -> serde_json::Value {
    member.status().unwrap()["id"].clone()
}

fn cluster_id(member: &Member) -> String {
    member.status().unwrap()["cluster_id"].to_string()
}

fn agree(cluster: &Cluster) {
    let hashes = cluster.state_hashes();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Starts a member whose process may end with one line and be started again, as a supervisor does.
fn wait_ready_supervised(cluster: &mut Cluster) {
    wait_until("all are ready", || {
        let mut ready = true;
        for member in &mut cluster.members {
            if !member.is_running() {
                member.wait_for_exit();
                member.start();
            }
            let answer = member.get("/topics?consistency=linearizable");
            ready &= answer.is_some_and(|answer| answer.status == 200);
        }
        ready
    });
}

#[test]
fn a_clone_of_a_living_member_ends_and_changes_nothing() {
    let cluster = Cluster::start(3, &[]);
    for number in 0..3 {
        let original = &cluster.members[number];
        must_create(original, "before");
        let copy = original.copy_data(&format!("clone{number}"));
        let mut clone = original.clone_on(&copy);
        let (code, log) = clone.run_to_its_end();
        assert_eq!(code, Some(1), "{log}");
        assert_eq!(log.matches("cannot start").count(), 1, "{log}");
        assert!(log.contains(COPY), "{log}");
        assert!(original.log().contains(COPY), "said at both ends");
        must_create(original, &format!("after{number}"));
    }
    agree(&cluster);
}

/// Nobody can tell which of the two is the copy, so the one that is reached at the member's address stays.
#[test]
fn of_a_clone_and_its_original_that_start_together_one_takes_part() {
    let mut cluster = Cluster::start(3, &[]);
    must_create(&cluster.members[0], "before");
    for member in &mut cluster.members {
        member.terminate();
    }
    let copy = cluster.members[1].copy_data("clone");
    let mut clone = cluster.members[1].clone_on(&copy);
    clone.start();
    for number in [0, 2, 1] {
        cluster.members[number].start();
    }
    cluster.members[0].wait_ready();
    must_create(&cluster.members[0], "after");
    wait_until("one of the two ends", || {
        !clone.is_running() || !cluster.members[1].is_running()
    });
    assert!(clone.is_running() || cluster.members[1].is_running());
    let said = [clone.log(), cluster.members[1].log()];
    let told = said.iter().filter(|log| log.contains(COPY));
    assert!(told.count() > 0);
    clone.kill();
    wait_ready_supervised(&mut cluster);
    assert_eq!(topics(&cluster.members[1]), ["after", "before"]);
    agree(&cluster);
}

/// Starts and writes since the copy; at one member or, with all stopped, at all.
fn put_back(together: bool) {
    let mut cluster = Cluster::start(3, &[]);
    let old = (cluster.leader() + 1) % 3;
    let other = (old + 1) % 3;
    cluster.members[old].terminate();
    let copy = cluster.members[old].copy_data("older");
    for number in 0..2 {
        cluster.members[old].start();
        cluster.members[old].wait_ready();
        must_create(&cluster.members[old], &format!("t{number}"));
        cluster.members[old].kill();
    }
    let was = id(&cluster.members[other]);
    if together {
        for member in &mut cluster.members {
            member.kill();
        }
    }
    cluster.members[old].restore(&copy);
    for member in &mut cluster.members {
        if !member.is_running() {
            member.start();
        }
    }
    wait_ready_supervised(&mut cluster);
    assert_eq!(id(&cluster.members[other]), was);
    let log = cluster.members[old].log();
    assert!(log.contains("set aside"), "{log}");
    assert!(cluster.members[old].data_path.join("set-aside-1").is_dir());
    wait_until("it votes under a new id", || {
        let status = cluster.members[other].status().unwrap();
        let members = status["members"].as_array().unwrap();
        members.len() == 3 && members.iter().all(|member| member["voter"] == true)
    });
    assert!(id(&cluster.members[old]).as_u64() > Some(3));
    must_create(&cluster.members[old], "after");
    assert_eq!(topics(&cluster.members[other]), ["after", "t0", "t1"]);
    agree(&cluster);
}

#[test]
fn a_member_put_back_to_an_older_copy_rejoins_as_a_new_one() {
    put_back(false);
}

#[test]
fn so_does_one_that_starts_together_with_the_others() {
    put_back(true);
}

/// A copy of a running member, from the start that is still under way.
#[test]
fn what_was_acknowledged_since_a_copy_of_the_same_start_is_missed() {
    let mut cluster = Cluster::start(3, &[]);
    let old = (cluster.leader() + 1) % 3;
    let copy = cluster.members[old].copy_data("older");
    for number in 0..20 {
        must_create(&cluster.members[old], &format!("t{number}"));
    }
    let was = id(&cluster.members[old]);
    cluster.members[old].kill();
    cluster.members[old].restore(&copy);
    cluster.members[old].start();
    wait_ready_supervised(&mut cluster);
    assert_ne!(id(&cluster.members[old]), was);
    assert_eq!(topics(&cluster.members[old]).len(), 20);
}

fn keep_only(data_path: &Path, kept: &[&str]) {
    for entry in std::fs::read_dir(data_path).unwrap() {
        let entry = entry.unwrap();
        let is_kept = kept.iter().any(|kept| entry.file_name() == *kept);
        match entry.path() {
            _ if is_kept => {}
            path if path.is_dir() => std::fs::remove_dir_all(path).unwrap(),
            path => std::fs::remove_file(path).unwrap(),
        }
    }
}

#[test]
fn an_identity_without_log_and_votes_is_refused() {
    let mut cluster = Cluster::start(3, &[]);
    let lost = (cluster.leader() + 1) % 3;
    let member = &mut cluster.members[lost];
    member.kill();
    keep_only(&member.data_path, &["identity", "starts", "peers"]);
    let (code, log) = member.run_to_its_end();
    assert_eq!(code, Some(74), "{log}");
    assert!(log.contains("neither its log nor its votes"), "{log}");
    assert!(log.contains("empty --data-path"), "{log}");
}

/// The vote is on disk, the first entry is not; the others have never heard of the cluster.
#[test]
fn power_lost_while_founding_does_not_keep_the_cluster_from_forming() {
    let mut cluster = Cluster::prepare(3, &[]);
    for number in [1, 2] {
        cluster.members[number].start();
        let identity = cluster.members[number].data_path.join("identity");
        wait_until("it has an instance", || identity.exists());
        cluster.members[number].kill();
    }
    let fresh =
        [1, 2].map(|number: usize| cluster.members[number].copy_data(&format!("f{number}")));
    for member in &mut cluster.members {
        member.start();
    }
    cluster.wait_ready();
    for member in &mut cluster.members {
        member.kill();
    }
    cluster.members[1].restore(&fresh[0]);
    cluster.members[2].restore(&fresh[1]);
    let founder = cluster.members[0].data_path.clone();
    keep_only(&founder, &["identity"]);
    let identity = std::fs::read(founder.join("identity")).unwrap();
    std::fs::remove_file(founder.join("identity")).unwrap();
    let store = Store::open(&founder).unwrap();
    let vote = StoredVote {
        term: 1,
        node_id: 1,
        committed: false,
    };
    store.log().save_vote(vote).unwrap();
    store.close().unwrap();
    std::fs::write(founder.join("identity"), identity).unwrap();
    for member in &mut cluster.members {
        member.start();
    }
    cluster.wait_ready();
    must_create(&cluster.members[1], "orders");
    agree(&cluster);
}

/// Clusters of one that are given one list later say that they stay apart.
#[test]
fn a_list_that_differs_from_the_recorded_members_is_reported() {
    let mut cluster = Cluster::prepare(2, &[]);
    for member in &mut cluster.members {
        let list = member.args.pop().unwrap();
        member.start();
        member.wait_ready();
        member.terminate();
        member.args.push(list);
    }
    for member in &mut cluster.members {
        member.start();
    }
    for member in &cluster.members {
        wait_until("both are named", || {
            let log = member.log();
            log.contains("--initial-cluster differs from the members that are recorded")
                && log.contains("lists a member of another cluster")
        });
    }
}

/// Numbers that look random, the same for each seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pause(&mut self, most_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.below(most_ms)));
    }
}

fn runs(variable: &str) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(2, |given| given.parse().unwrap())
}

/// One or two members lost their disks; all start in any order. `WIPED_RUNS` sets how often.
#[test]
fn wiped_members_never_found_a_second_cluster() {
    for seed in 1..=runs("WIPED_RUNS") {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut cluster = Cluster::start(3, &[]);
        must_create(&cluster.members[0], "precious");
        let was = cluster_id(&cluster.members[0]);
        for member in &mut cluster.members {
            member.kill();
        }
        let two = random.below(2) == 1;
        let survivor = random.below(3) as usize;
        let kept = |number: usize| number == survivor || (!two && number == (survivor + 1) % 3);
        for number in (0..3).filter(|number| !kept(*number)) {
            cluster.members[number].wipe();
        }
        let mut order = [0, 1, 2];
        for place in (1..3).rev() {
            order.swap(place, random.below(place as u64 + 1) as usize);
        }
        if two {
            order.sort_by_key(|number| *number == survivor);
        }
        for number in order {
            cluster.members[number].start();
            random.pause(400);
        }
        if two {
            // There is no quorum left of the cluster, and nobody makes another.
            wait_until("the survivor has loaded", || {
                cluster.members[survivor].status().is_some()
            });
            random.pause(3_000);
        } else {
            cluster.wait_ready();
            assert!(topics(&cluster.members[0]).contains(&"precious".to_string()));
        }
        for (number, member) in cluster.members.iter().enumerate() {
            let id = member.status().map(|_| cluster_id(member));
            let fine = id.as_ref().is_none_or(|id| *id == was);
            assert!(
                fine,
                "seed {seed}: {number} belongs to {id:?}, not to {was}"
            );
        }
    }
}

/// Copies, clones and restored copies at random moments under writes. `COPY_RUNS` sets how often.
#[test]
fn copies_at_random_moments_lose_nothing_that_was_acknowledged() {
    for seed in 1..=runs("COPY_RUNS") {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut cluster = Cluster::start(3, &["--snapshot-count=60"]);
        let number = random.below(3) as usize;
        let mut acknowledged = Vec::new();
        let mut write = |cluster: &Cluster, count: u64| {
            for attempt in 0..count {
                let topic = format!("t{}-{attempt}", acknowledged.len());
                let member = &cluster.members[attempt as usize % 3];
                if create(member, &topic) {
                    acknowledged.push(topic);
                }
            }
        };
        write(&cluster, 5 + random.below(60));
        if random.below(2) == 0 {
            cluster.members[number].terminate();
        }
        let copy = cluster.members[number].copy_data("copy");
        if !cluster.members[number].is_running() {
            cluster.members[number].start();
        }
        write(&cluster, random.below(100));
        let kind = random.below(3);
        let mut clone = cluster.members[number].clone_on(&copy);
        if kind == 0 {
            // Beside its original.
            clone.start();
        } else {
            cluster.members[number].kill();
            if kind == 1 {
                write(&cluster, random.below(20));
            }
            cluster.members[number].restore(&copy);
            cluster.members[number].start();
        }
        random.pause(500);
        if random.below(2) == 0 {
            let other = (number + 1 + random.below(2) as usize) % 3;
            cluster.members[other].kill();
            cluster.members[other].start();
        }
        write(&cluster, random.below(60));
        if kind == 0 {
            assert_eq!(clone.wait_for_exit(), Some(1), "{}", clone.log());
            assert!(clone.log().contains(COPY), "seed {seed}: {}", clone.log());
        }
        wait_ready_supervised(&mut cluster);
        let there = topics(&cluster.members[0]);
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|topic| !there.contains(topic))
            .collect();
        assert!(
            lost.is_empty(),
            "seed {seed}, kind {kind}: {lost:?} of {}",
            acknowledged.len()
        );
        agree(&cluster);
    }
}
