//! What the command line says about targets. PURE.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::Kind;

/// The most members that are started: all share one machine.
const MOST_MEMBERS: usize = 7;

/// A target, before it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spec {
    /// Runs already: as many TCP as HTTP addresses, in the same order.
    Running {
        tcp: Vec<SocketAddr>,
        http: Vec<SocketAddr>,
    },
    /// Is started for each scenario.
    Start(Program),
}

impl Spec {
    /// For people.
    pub(crate) fn name(&self) -> String {
        match self {
            Spec::Running { .. } => "running".into(),
            Spec::Start(program) => program.kind.to_string(),
        }
    }

    /// Whether its members can be killed and started again.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Spec::Start(_))
    }
}

/// A program and how many members of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    pub(crate) members: usize,
}

impl FromStr for Program {
    type Err = String;

    /// `KIND=PATH[,members=N]`
    fn from_str(text: &str) -> Result<Program, String> {
        let (name, rest) = text.split_once('=').ok_or("must be KIND=PATH")?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| {
            let names = Kind::ALL.map(Kind::name).join(", ");
            format!("{name:?} is none of {names}")
        })?;
        let (path, members) = match rest.rsplit_once(",members=") {
            Some((path, members)) => (path, members.parse().ok()),
            None => (rest, Some(3)),
        };
        let members = members.filter(|members| (1..=MOST_MEMBERS).contains(members));
        if path.is_empty() {
            return Err("must be KIND=PATH".into());
        }
        Ok(Program {
            kind,
            path: path.into(),
            members: members.ok_or_else(|| format!("members must be 1 to {MOST_MEMBERS}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_by_kind_and_path() {
        let program = |kind, path: &str, members| {
            Ok(Program {
                kind,
                path: path.into(),
                members,
            })
        };
        let error = |text: &str| Err(text.to_string());
        for (text, expected) in [
            ("etcd=/bin/etcd", program(Kind::Etcd, "/bin/etcd", 3)),
            (
                "nsqlookupd=nsqlookupd,members=1",
                program(Kind::Nsqlookupd, "nsqlookupd", 1),
            ),
            (
                "raftlookupd=a=b,c,members=5",
                program(Kind::Raftlookupd, "a=b,c", 5),
            ),
            ("etcd", error("must be KIND=PATH")),
            ("etcd=", error("must be KIND=PATH")),
            (
                "consul=x",
                error("\"consul\" is none of raftlookupd, nsqlookupd, etcd"),
            ),
            ("etcd=x,members=0", error("members must be 1 to 7")),
            ("etcd=x,members=many", error("members must be 1 to 7")),
        ] {
            assert_eq!(text.parse::<Program>(), expected, "{text}");
        }
    }
}
