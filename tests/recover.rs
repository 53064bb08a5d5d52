//! `raftlookupd recover`: what data paths hold, and a new cluster when the quorum is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects

mod support;

use std::path::Path;
use std::process::Command;

use support::cluster::Cluster;
use support::member::Member;
use support::wait_until;

/// The exit code, and what was printed.
fn recover(data_paths: &[&Path], more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftlookupd"));
    command.arg("recover");
    for data_path in data_paths {
        command.arg("--data-path").arg(data_path);
    }
    let output = command.args(more).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).unwrap())
}

fn must_create(member: &Member, topic: &str) {
    wait_until("a write", || {
        let answer = member.post(&format!("/topic/create?topic={topic}"));
        answer.is_some_and(|answer| answer.status == 200)
    });
}

fn shows(member: &Member, expected: &[&str]) -> bool {
    let answer = member.get("/topics?consistency=linearizable");
    answer.is_some_and(|answer| {
        answer.status == 200 && answer.json()["topics"] == serde_json::json!(expected)
    })
}

fn cluster_id(member: &Member) -> String {
    let status = member.status().unwrap();
    status["cluster_id"].as_str().unwrap().to_string()
}

#[test]
fn the_survivor_of_a_lost_quorum_makes_a_new_cluster_that_keeps_the_registry() {
    let mut cluster = Cluster::start(3, &[]);
    must_create(&cluster.members[0], "first");
    let survivor = (cluster.leader() + 1) % 3;
    let lagging = (survivor + 1) % 3;
    let before = cluster_id(&cluster.members[survivor]);
    cluster.members[lagging].kill();
    must_create(&cluster.members[survivor], "second");
    wait_until("the survivor has it", || {
        shows(&cluster.members[survivor], &["first", "second"])
    });
    let survivors_path = cluster.members[survivor].data_path.clone();
    let laggings_path = cluster.members[lagging].data_path.clone();
    let (code, printed) = recover(&[&survivors_path], &[]);
    assert_eq!(code, Some(74), "it is in use: {printed}");
    for member in &mut cluster.members {
        member.kill();
    }

    let (code, printed) = recover(&[&laggings_path, &survivors_path], &[]);
    assert_eq!(code, Some(0), "{printed}");
    let most = format!("{} has most", survivors_path.display());
    assert!(printed.contains(&most), "{printed}");
    assert!(printed.contains(&before), "{printed}");
    for member in &cluster.members {
        assert!(printed.contains(&format!("127.0.0.1:{}", member.peer)));
    }
    let (code, printed) = recover(&[&survivors_path], &["--force-new-cluster"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(!printed.contains(&before), "{printed}");

    // A member of the old cluster that comes back is kept out.
    cluster.members[survivor].start();
    cluster.members[survivor].wait_ready();
    assert!(shows(&cluster.members[survivor], &["first", "second"]));
    must_create(&cluster.members[survivor], "third");
    let after = cluster_id(&cluster.members[survivor]);
    assert_ne!(after, before);
    cluster.members[lagging].start();
    wait_until("it says that it belongs elsewhere", || {
        let log = cluster.members[lagging].log();
        log.contains("different clusters") || log.contains("another cluster")
    });
    let status = cluster.members[survivor].status().unwrap();
    assert_eq!(status["members"].as_array().unwrap().len(), 1);
    for number in (0..3).filter(|number| *number != survivor) {
        let member = &cluster.members[number];
        let announced = format!(
            "/cluster/add?name={}&address=127.0.0.1:{}",
            member.name, member.peer
        );
        let answer = cluster.members[survivor].post(&announced).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        cluster.members[number].wipe();
        cluster.members[number].start();
    }
    cluster.wait_ready();
    for member in &cluster.members {
        wait_until("all have it", || {
            shows(member, &["first", "second", "third"])
        });
        assert_eq!(cluster_id(member), after);
    }
    wait_until("all vote", || {
        let status = cluster.members[survivor].status().unwrap();
        let members = status["members"].as_array().unwrap();
        members.len() == 3 && members.iter().all(|member| member["voter"] == true)
    });
}

#[test]
fn what_is_no_data_path_of_a_member_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for path in [folder.path(), &missing] {
        for flags in [&[][..], &["--force-new-cluster"]] {
            let (code, printed) = recover(&[path], flags);
            assert_eq!(code, Some(1), "{printed}");
            assert_eq!(printed.lines().count(), 1, "{printed}");
            assert!(printed.contains("cannot be recovered"), "{printed}");
        }
    }
    assert!(!missing.exists(), "nothing is created");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let (code, printed) = recover(&[], &[]);
    assert_eq!(code, Some(2), "{printed}");
}
