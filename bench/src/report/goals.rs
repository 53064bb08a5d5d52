//! What the project promises of its speed, as ratios to its peers on the same machine in the
//! same run: figures alone say more of the machine. PURE.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::figures::{Name, Summary};
use crate::size::Size::{self, Large, Medium, Small};
use crate::targets::Kind::{self, Etcd, Nsqlookupd, Raftlookupd};

/// Which number of a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stat {
    /// The figure itself.
    Value,
    /// The median of single operations, in milliseconds.
    P50,
}

/// What raftlookupd's number must be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    /// So many times that of the other, or more.
    AtLeast(f64, Kind, Name),
    /// So many times that of the other, or less.
    AtMost(f64, Kind, Name),
    /// Not more than this, in its unit.
    Below(f64),
}

/// One promise.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Goal {
    ours: Name,
    stat: Stat,
    rule: Rule,
}

/// What became of a promise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) what: Name,
    /// `p50` where the number is not the figure itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) statistic: Option<&'static str>,
    pub(crate) ours: f64,
    /// Who it is compared with, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) against: Option<Against>,
    pub(crate) target: Bound,
    pub(crate) met: bool,
}

/// The number that ours is compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Against {
    pub(crate) kind: Kind,
    pub(crate) what: Name,
    pub(crate) value: f64,
    /// Ours divided by it.
    pub(crate) ratio: f64,
}

/// The limit of a promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// Of the ratio.
    AtLeast(f64),
    /// Of the ratio.
    AtMost(f64),
    /// Of the number itself.
    Below(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&match self {
            Bound::AtLeast(ratio) => format!(">= {ratio:.2}x"),
            Bound::AtMost(ratio) => format!("<= {ratio:.2}x"),
            Bound::Below(value) => format!("<= {value}"),
        })
    }
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const fn name(workload: &'static str, size: Option<Size>) -> Name {
    Name { workload, size }
}

const fn rate(ours: Name, factor: f64, kind: Kind, theirs: Name) -> Goal {
    Goal {
        ours,
        stat: Stat::Value,
        rule: Rule::AtLeast(factor, kind, theirs),
    }
}

const fn cost(ours: Name, stat: Stat, factor: f64, kind: Kind) -> Goal {
    Goal {
        ours,
        stat,
        rule: Rule::AtMost(factor, kind, ours),
    }
}

const fn below(ours: Name, value: f64) -> Goal {
    Goal {
        ours,
        stat: Stat::Value,
        rule: Rule::Below(value),
    }
}

/// All promises.
fn goals() -> Vec<Goal> {
    let same = |workload, size, factor, kind| {
        let name = name(workload, size);
        rate(name, factor, kind, name)
    };
    let sized = |workload, size| name(workload, Some(size));
    let (nsqlookupd, etcd, third) = (Nsqlookupd, Etcd, 1.0 / 3.0);
    let one_topic = sized("lookup-8", Small);
    vec![
        rate(one_topic, 1.0, nsqlookupd, one_topic),
        rate(sized("lookup-8-stale", Small), 2.0, nsqlookupd, one_topic),
        same("lookup-every-8", Some(Medium), 3.0, nsqlookupd),
        same("lookup-every-8", Some(Large), 60.0, nsqlookupd),
        same("nodes-8", Some(Medium), 10.0, nsqlookupd),
        same("nodes-8", Some(Large), 20.0, nsqlookupd),
        same("topics-8", Some(Large), 5.0, nsqlookupd),
        same("channels-8", Some(Large), 60.0, nsqlookupd),
        // What it costs must not depend on how much there is.
        rate(sized("lookup-8", Large), 1.0 / 1.3, Raftlookupd, one_topic),
        cost(name("register-1-leader", None), Stat::P50, 0.8, etcd),
        cost(name("register-1-follower", None), Stat::P50, 1.1, etcd),
        same("register-512", None, 10.0, etcd),
        same("register-512", None, third, nsqlookupd),
        same("register-pipelined", Some(Large), third, nsqlookupd),
        same("register-present", Some(Large), 0.5, nsqlookupd),
        below(sized("register-present-log-entries", Large), 0.0),
        below(name("channels-10000-fresh", None), 25.0),
        below(name("channels-10000-reconnecting", None), 6.0),
        cost(sized("all-gone", Large), Stat::Value, 1.0, nsqlookupd),
        cost(
            sized("memory-registered", Large),
            Stat::Value,
            1.0,
            nsqlookupd,
        ),
        cost(sized("memory-peak", Large), Stat::Value, 1.0, nsqlookupd),
        below(sized("memory-registered", Large), 200.0),
        below(sized("memory-peak", Large), 640.0),
        below(sized("cold-start", Large), 3.0),
        below(name("failover-write-gap", None), 1_200.0),
        below(name("failover-stale-lookup-gap", None), 50.0),
    ]
}

/// Judges what was measured; promises about what was not are left out.
pub(crate) fn judge(summaries: &[Summary]) -> Vec<Verdict> {
    let verdicts = goals().into_iter().map(|goal| judge_one(&goal, summaries));
    verdicts.flatten().collect()
}

fn judge_one(goal: &Goal, summaries: &[Summary]) -> Option<Verdict> {
    let number = |kind, name| {
        let found = |summary: &&Summary| summary.of.kind == kind && summary.name == name;
        let summary = summaries.iter().find(found)?;
        match goal.stat {
            Stat::Value => Some(summary.median),
            Stat::P50 => summary.latency_ms.map(|latency| latency.p50),
        }
    };
    let ours = number(Raftlookupd, goal.ours)?;
    let against = |kind, what| {
        let value = number(kind, what)?;
        let ratio = ours / value;
        Some(Against {
            kind,
            what,
            value,
            ratio,
        })
    };
    let (against, target, met) = match goal.rule {
        Rule::AtLeast(factor, kind, name) => {
            let against = against(kind, name)?;
            let met = against.ratio >= factor;
            (Some(against), Bound::AtLeast(factor), met)
        }
        Rule::AtMost(factor, kind, name) => {
            let against = against(kind, name)?;
            let met = against.ratio <= factor;
            (Some(against), Bound::AtMost(factor), met)
        }
        Rule::Below(value) => (None, Bound::Below(value), ours <= value),
    };
    Some(Verdict {
        what: goal.ours,
        statistic: (goal.stat == Stat::P50).then_some("p50"),
        ours,
        against,
        target,
        met,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Measurand, Unit};
    use crate::latency::Percentiles;
    use crate::workloads::Scenario;

    fn summary(kind: Kind, name: Name, median: f64, p50: f64) -> Summary {
        let latency = Percentiles {
            p50,
            p90: p50,
            p99: p50,
            p999: p50,
            max: p50,
            count: 1,
        };
        Summary {
            name,
            of: Measurand { kind, target: 0 },
            unit: Unit::PerSecond,
            median,
            values: vec![median],
            latency_ms: Some(latency),
            refused: 0,
        }
    }

    #[test]
    fn a_rate_must_reach_its_part_of_the_peers() {
        let lookup = name("lookup-8", Some(Small));
        for (ours, met) in [(99.0, false), (100.0, true), (200.0, true)] {
            let summaries = [
                summary(Nsqlookupd, lookup, 100.0, 1.0),
                summary(Raftlookupd, lookup, ours, 1.0),
            ];
            let [verdict] = &judge(&summaries)[..] else {
                panic!("one verdict");
            };
            assert_eq!(verdict.met, met, "{verdict:?}");
            let ratio = verdict.against.as_ref().unwrap().ratio;
            assert!((ratio - ours / 100.0).abs() < 1e-9, "{verdict:?}");
            assert_eq!(verdict.target.to_string(), ">= 1.00x");
        }
    }

    #[test]
    fn a_latency_must_not_exceed_its_part_of_the_peers() {
        let register = name("register-1-leader", None);
        for (ours, met) in [(0.9, false), (0.7, true)] {
            let summaries = [
                summary(Etcd, register, 500.0, 1.0),
                summary(Raftlookupd, register, 1.0, ours),
            ];
            let verdicts = judge(&summaries);
            assert_eq!(verdicts.len(), 1);
            assert_eq!(verdicts[0].met, met, "{verdicts:?}");
            assert_eq!(verdicts[0].statistic, Some("p50"));
        }
    }

    #[test]
    fn some_promises_need_no_peer_and_none_is_judged_unmeasured() {
        let start = name("cold-start", Some(Large));
        let verdicts = judge(&[summary(Raftlookupd, start, 3.5, 0.0)]);
        assert_eq!(verdicts.len(), 1);
        assert!(!verdicts[0].met && verdicts[0].against.is_none());
        assert_eq!(judge(&[summary(Nsqlookupd, start, 3.5, 0.0)]), []);
    }

    #[test]
    fn every_promise_is_about_something_that_is_measured() {
        let all = Scenario::all(&[Small, Medium, Large]);
        let known: Vec<&str> = all.into_iter().flat_map(Scenario::workloads).collect();
        for goal in goals() {
            let mut names = vec![goal.ours];
            match goal.rule {
                Rule::AtLeast(_, _, theirs) | Rule::AtMost(_, _, theirs) => names.push(theirs),
                Rule::Below(_) => {}
            }
            for name in names {
                assert!(known.contains(&name.workload), "{name}");
            }
        }
    }
}
