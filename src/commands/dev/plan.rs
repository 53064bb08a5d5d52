//! Plans which processes to start with which flags, and describes them to the user.

use std::path::{Path, PathBuf};

use super::args::Args;
use crate::config::{self, Invocation};
use crate::error::{Error, Result};
use crate::listen;

/// Everything is on this host.
const HOST: &str = "127.0.0.1";

/// The distance between the ports of two members.
const STRIDE: u16 = 100;

/// The number of members and the first port, unless the data path has others.
const DEFAULTS: Known = Known {
    members: 3,
    base_port: 4160,
};

/// The file in the data path that keeps the first port. Members record one another's addresses, so a
/// cluster cannot be moved by starting it on other ports.
const BASE_PORT_FILE: &str = "base-port";

/// A cluster on this machine.
#[derive(Debug)]
pub struct Plan {
    pub(super) program: PathBuf,
    pub(super) data_path: PathBuf,
    pub(super) members: Vec<Place>,
    member_flags: Vec<String>,
    continues: bool,
    base_port: u16,
}

/// What an earlier start recorded in the data path.
#[derive(Debug, Clone, Copy)]
struct Known {
    members: u16,
    base_port: u16,
}

/// The name, ports and data of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    tcp: u16,
    http: u16,
    peer: u16,
    data_path: PathBuf,
}

impl Plan {
    /// Plans for this machine, and checks that the plan can work.
    pub(super) fn new(args: Args) -> Result<Plan> {
        let system = |action| move |source| Error::System { action, source };
        // Absolute, since commands are pasted into terminals with another working directory.
        let data_path =
            std::path::absolute(&args.data_path).map_err(system("make the data path absolute"))?;
        let program = std::env::current_exe().map_err(system("find the running program"))?;
        let plan = Plan::lay_out(args, program, data_path.clone(), Known::load(&data_path))?;
        plan.check_member_flags()?;
        Ok(plan)
    }

    fn lay_out(
        args: Args,
        program: PathBuf,
        data_path: PathBuf,
        known: Option<Known>,
    ) -> Result<Plan> {
        let default = known.unwrap_or(DEFAULTS);
        let number = args.nodes.unwrap_or(default.members);
        let base_port = args.base_port.unwrap_or(default.base_port);
        if let Some(known) = known {
            let shown = data_path.display();
            if number < known.members {
                return Err(Error::Dev(format!(
                    "{shown} has the data of {0} members, and {number} of them may not be a \
                     majority: use --nodes {0} or another --data-path",
                    known.members
                )));
            }
            if base_port != known.base_port {
                return Err(Error::Dev(format!(
                    "the members in {shown} use ports from {0} on: \
                     use --base-port {0} or another --data-path",
                    known.base_port
                )));
            }
        }
        let last = u32::from(base_port) + u32::from((number - 1) * STRIDE) + 2;
        if last > u32::from(u16::MAX) {
            return Err(Error::Dev(format!(
                "--base-port {base_port} is too high: the last port would be {last}"
            )));
        }
        let places = (1..=number).map(|number| {
            let tcp = base_port + (number - 1) * STRIDE;
            Place {
                name: format!("n{number}"),
                tcp,
                http: tcp + 1,
                peer: tcp + 2,
                data_path: folder(&data_path, number),
            }
        });
        Ok(Plan {
            program,
            members: places.collect(),
            data_path,
            member_flags: args.member_flags,
            continues: known.is_some(),
            base_port,
        })
    }

    fn check_member_flags(&self) -> Result<()> {
        let Some(first) = self.members.first() else {
            return Ok(());
        };
        let words = self.flags(first).into_iter().map(Into::into);
        // If our flags were not read, the name would be the hostname.
        match config::read(words, [], "unread")? {
            Invocation::Member { config, .. } if config.name == first.name => Ok(()),
            _ => Err(Error::Usage(format!(
                "not all of these are flags of a member: {}",
                self.member_flags.join(" ")
            ))),
        }
    }

    /// The flags of a member.
    pub(super) fn flags(&self, place: &Place) -> Vec<String> {
        let others = self.members.iter();
        let others = others.map(|other| format!("{}={HOST}:{}", other.name, other.peer));
        let others: Vec<String> = others.collect();
        // Ours come last and take precedence.
        let mut flags = self.member_flags.clone();
        flags.extend([
            format!("--name={}", place.name),
            format!("--tcp-address={HOST}:{}", place.tcp),
            format!("--http-address={HOST}:{}", place.http),
            format!("--peer-address={HOST}:{}", place.peer),
            format!("--broadcast-address={HOST}"),
            format!("--initial-cluster={}", others.join(",")),
            format!("--data-path={}", place.data_path.display()),
        ]);
        flags
    }

    /// The command that starts a member by hand, from any directory.
    pub(super) fn command(&self, place: &Place) -> String {
        let words = self.flags(place);
        let words = std::iter::once(self.program.display().to_string()).chain(words);
        words.map(|word| quote(&word)).collect::<Vec<_>>().join(" ")
    }

    /// The HTTP ports to watch.
    pub(super) fn http_ports(&self) -> Vec<u16> {
        self.members.iter().map(|place| place.http).collect()
    }

    /// Checks every port before anything is started.
    pub(super) fn check_ports(&self) -> Result<()> {
        let mut taken = Vec::new();
        for place in &self.members {
            let ports = [
                (place.tcp, "V1"),
                (place.http, "HTTP"),
                (place.peer, "peers"),
            ];
            for (port, what) in ports {
                if let Err(error) = listen::bind(&format!("{HOST}:{port}")) {
                    let reason = error.to_string();
                    let reason = reason.rsplit(" failed - ").next().unwrap_or(&reason);
                    taken.push(format!("{port} ({} {what}: {reason})", place.name));
                }
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let other = if self.continues {
            "start another cluster with --base-port and --data-path"
        } else {
            "choose others with --base-port"
        };
        Err(Error::Dev(format!(
            "cannot listen on {}; stop the process that does, or {other}",
            taken.join(", ")
        )))
    }

    /// Records in the data path what the next start needs.
    pub(super) fn remember(&self) -> Result<()> {
        let saved = std::fs::create_dir_all(&self.data_path).and_then(|()| {
            let text = format!("{}\n", self.base_port);
            std::fs::write(self.data_path.join(BASE_PORT_FILE), text)
        });
        saved.map_err(|error| {
            Error::Dev(format!(
                "cannot write to {}: {error}",
                self.data_path.display()
            ))
        })
    }

    /// The table of members.
    pub(super) fn table(&self, pids: &[u32]) -> String {
        let row = |cells: [&str; 6]| {
            let [name, tcp, http, peer, pid, data] = cells;
            format!("  {name:<7} {tcp:<16} {http:<23} {peer:<16} {pid:<8} {data}\n")
        };
        let mut table = row(["member", "nsqd (V1)", "HTTP", "peers", "pid", "data"]);
        for (place, pid) in self.members.iter().zip(pids) {
            table += &row([
                &place.name,
                &format!("{HOST}:{}", place.tcp),
                &format!("http://{HOST}:{}", place.http),
                &format!("{HOST}:{}", place.peer),
                &pid.to_string(),
                &place.data_path.display().to_string(),
            ]);
        }
        table
    }

    /// Commands to try.
    pub(super) fn commands(&self, pids: &[u32]) -> String {
        let each = |flag: &str, port: fn(&Place) -> u16| {
            let flags = self.members.iter();
            let flags = flags.map(|place| format!(" {flag}={HOST}:{}", port(place)));
            flags.collect::<String>()
        };
        let last = self.members.last().map_or(0, |place| place.http);
        let pid = pids.first().copied().unwrap_or(0);
        format!(
            "  Try, in another terminal:\n\n    \
             nsqd --data-path=/tmp --broadcast-address={HOST}{}\n    \
             nsqadmin{}\n    \
             curl -d hello 'http://{HOST}:4151/pub?topic=orders'\n    \
             curl 'http://{HOST}:{last}/lookup?topic=orders'\n    \
             kill -9 {pid}\n\n  \
             Ctrl-C stops all.\n",
            each("--lookupd-tcp-address", |place| place.tcp),
            each("--lookupd-http-address", |place| place.http),
        )
    }
}

impl Known {
    fn load(data_path: &Path) -> Option<Known> {
        let text = std::fs::read_to_string(data_path.join(BASE_PORT_FILE)).ok()?;
        let base_port = text.trim().parse().ok()?;
        let members = (1..=9).filter(|number| folder(data_path, *number).is_dir());
        Some(Known {
            members: members.max()?,
            base_port,
        })
    }
}

fn folder(data_path: &Path, number: u16) -> PathBuf {
    data_path.join(format!("n{number}"))
}

/// Quotes a word for a shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay_out(
        nodes: Option<u16>,
        base_port: Option<u16>,
        known: Option<(u16, u16)>,
        extra: &[&str],
    ) -> Result<Plan> {
        let args = Args {
            nodes,
            data_path: "data".into(),
            base_port,
            member_flags: extra.iter().map(ToString::to_string).collect(),
        };
        let known = known.map(|(members, base_port)| Known { members, base_port });
        Plan::lay_out(args, "/bin/raft lookupd".into(), "/data".into(), known)
    }

    #[test]
    fn ports_and_flags() {
        let plan = lay_out(None, None, None, &["--name=x", "--log-level=debug"]).unwrap();
        let second = &plan.members[1];
        assert_eq!((second.tcp, second.http, second.peer), (4260, 4261, 4262));
        assert_eq!(
            plan.command(second),
            "'/bin/raft lookupd' --name=x --log-level=debug --name=n2 \
             --tcp-address=127.0.0.1:4260 --http-address=127.0.0.1:4261 \
             --peer-address=127.0.0.1:4262 --broadcast-address=127.0.0.1 \
             --initial-cluster=n1=127.0.0.1:4162,n2=127.0.0.1:4262,n3=127.0.0.1:4362 \
             --data-path=/data/n2"
        );
        plan.check_member_flags().unwrap();
    }

    #[test]
    fn what_there_was_goes_on() {
        let shape = |nodes, base_port, known| {
            let plan = lay_out(nodes, base_port, known, &[]);
            plan.map(|plan| (plan.members.len(), plan.members[0].tcp))
        };
        assert_eq!(shape(None, None, None).unwrap(), (3, 4160));
        assert_eq!(shape(Some(1), Some(9000), None).unwrap(), (1, 9000));
        assert_eq!(shape(None, None, Some((5, 9000))).unwrap(), (5, 9000));
        assert_eq!(
            shape(Some(5), Some(9000), Some((3, 9000))).unwrap(),
            (5, 9000)
        );
        for (nodes, base_port, text) in [
            (Some(1), None, "use --nodes 3 or another --data-path"),
            (
                None,
                Some(4160),
                "use --base-port 9000 or another --data-path",
            ),
        ] {
            let said = shape(nodes, base_port, Some((3, 9000)))
                .unwrap_err()
                .to_string();
            assert!(said.contains(text), "{said}");
        }
    }

    #[test]
    fn what_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Known::load(folder.path()).is_none());
        let mut plan = lay_out(Some(2), Some(9000), None, &[]).unwrap();
        plan.data_path = folder.path().join("new");
        plan.remember().unwrap();
        // No member has used it yet, so it can be used for anything.
        assert!(Known::load(&plan.data_path).is_none());
        std::fs::create_dir(plan.data_path.join("n2")).unwrap();
        let known = Known::load(&plan.data_path).unwrap();
        assert_eq!((known.members, known.base_port), (2, 9000));
    }

    #[test]
    fn what_cannot_work() {
        let said = lay_out(Some(9), Some(65_000), None, &[]);
        let said = said.unwrap_err().to_string();
        assert!(said.contains("--base-port 65000 is too high"), "{said}");
        for (extra, text) in [
            (&["--bogus"][..], "flag provided but not defined: -bogus"),
            (
                &["--log-level=loud"],
                "for flag -log-level: invalid log level",
            ),
            (
                &["--version"],
                "not all of these are flags of a member: --version",
            ),
            (&["stray"], "not all of these are flags of a member: stray"),
        ] {
            let plan = lay_out(None, None, None, extra).unwrap();
            let said = plan.check_member_flags().unwrap_err().to_string();
            assert!(said.contains(text), "{said}");
        }
    }

    #[test]
    fn taken_ports_are_named() {
        let holder = listen::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let plan = lay_out(Some(1), Some(port - 1), None, &[]).unwrap();
        let said = plan.check_ports().unwrap_err().to_string();
        let text = format!("{port} (n1 HTTP: address already in use)");
        assert!(said.contains(&text), "{said}");
    }

    #[test]
    fn words_for_a_shell() {
        for (word, quoted) in [
            ("--name=n1", "--name=n1"),
            ("", "''"),
            ("/my data/n1", "'/my data/n1'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }
}
