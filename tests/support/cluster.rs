//! Several members that form one cluster.

use tempfile::TempDir;

use super::member::Member;
use super::wait_for;

pub struct Cluster {
    pub members: Vec<Member>,
    // Dropped last: the members write there.
    folder: TempDir,
}

impl Cluster {
    /// Members a, b, c, ... started and ready; every one with these flags besides its own.
    pub fn start(size: usize, args: &[&str]) -> Cluster {
        let mut cluster = Cluster::prepare(size, args);
        for member in &mut cluster.members {
            member.start();
        }
        cluster.wait_ready();
        cluster
    }

    /// The same, not started.
    pub fn prepare(size: usize, args: &[&str]) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c", "d", "e"];
        let mut members: Vec<Member> = names[..size]
            .iter()
            .map(|name| Member::new(name, folder.path()))
            .collect();
        let list: Vec<String> = members.iter().map(Member::listed).collect();
        for member in &mut members {
            member.args = args.iter().map(ToString::to_string).collect();
            member
                .args
                .push(format!("--initial-cluster={}", list.join(",")));
        }
        Cluster {
            members,
            folder,
        }
    }

    /// A further member, not started and not announced; its list names the others, too.
    pub fn newcomer(&self, name: &str) -> Member {
        let mut newcomer = Member::new(name, self.folder.path());
        let others = self.members.iter();
        let list: Vec<String> = others.chain([&newcomer]).map(Member::listed).collect();
        let list = format!("--initial-cluster={}", list.join(","));
        newcomer.args.push(list);
        newcomer
    }

    pub fn wait_ready(&self) {
        for member in &self.members {
            member.wait_ready();
        }
    }

    /// The position of the leader, as a running member with a quorum sees it.
    pub fn leader(&self) -> usize {
        wait_for("a leader", || {
            self.members.iter().find_map(|member| {
                let status = member.status()?;
                let leader = status["leader"].as_u64()?;
                let members = status["members"].as_array()?;
                let node = members.iter().find(|node| node["id"] == leader)?;
                self.members
                    .iter()
                    .position(|member| node["name"] == *member.name)
            })
        })
    }

    /// The state hash of every member, once all have applied the same index.
    pub fn state_hashes(&self) -> Vec<String> {
        wait_for("all members have applied the same index", || {
            let statuses: Vec<_> = self
                .members
                .iter()
                .map(Member::status)
                .collect::<Option<_>>()?;
            let same = statuses
                .windows(2)
                .all(|pair| pair[0]["applied_index"] == pair[1]["applied_index"]);
            same.then(|| {
                let hashes = statuses.iter().map(|status| status["state_hash"].as_str());
                hashes.map(|hash| hash.unwrap().to_string()).collect()
            })
        })
    }
}
