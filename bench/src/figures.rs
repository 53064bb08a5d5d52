//! What was measured, of all targets and repetitions. PURE.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::latency::{Latencies, Percentiles};
use crate::size::Size;
use crate::targets::Kind;

/// In what a figure is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "1/s")]
    PerSecond,
    #[serde(rename = "ms")]
    Millis,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MB")]
    Megabytes,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "entries")]
    Entries,
}

impl fmt::Display for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Unit::PerSecond => "/s",
            Unit::Millis => "ms",
            Unit::Seconds => "s",
            Unit::Megabytes => "MB",
            Unit::Bytes => "bytes",
            Unit::Entries => "entries",
        })
    }
}

/// The name of a figure: the workload, and the size where that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) workload: &'static str,
    pub(crate) size: Option<Size>,
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            Some(size) => formatter.pad(&format!("{} {size}", self.workload)),
            None => formatter.pad(self.workload),
        }
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whose figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Measurand {
    /// The program.
    pub(crate) kind: Kind,
    /// The position on the command line: there may be several of one kind.
    pub(crate) target: usize,
}

/// One figure of one repetition.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: Name,
    pub(crate) of: Measurand,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
    /// Of single operations.
    pub(crate) latencies: Option<Latencies>,
    /// Operations that the target said it cannot do at the moment.
    pub(crate) refused: u64,
}

/// One figure of all repetitions.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) name: Name,
    #[serde(flatten)]
    pub(crate) of: Measurand,
    pub(crate) unit: Unit,
    pub(crate) median: f64,
    /// In the order of the repetitions.
    pub(crate) values: Vec<f64>,
    /// Of all repetitions together, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ms: Option<Percentiles>,
    pub(crate) refused: u64,
}

/// Puts the repetitions together; in the order in which the figures came first.
pub(crate) fn summarize(figures: &[Figure]) -> Vec<Summary> {
    let mut groups: Vec<Vec<&Figure>> = Vec::new();
    for figure in figures {
        let same =
            |group: &&mut Vec<&Figure>| group[0].name == figure.name && group[0].of == figure.of;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(figure),
            None => groups.push(vec![figure]),
        }
    }
    groups.iter().map(|group| summary(group)).collect()
}

fn summary(group: &[&Figure]) -> Summary {
    let values: Vec<f64> = group.iter().map(|figure| figure.value).collect();
    let mut latencies: Option<Latencies> = None;
    for more in group.iter().filter_map(|figure| figure.latencies.as_ref()) {
        match &mut latencies {
            Some(sum) => sum.merge(more),
            None => latencies = Some(more.clone()),
        }
    }
    Summary {
        name: group[0].name,
        of: group[0].of,
        unit: group[0].unit,
        median: median(&values),
        values,
        latency_ms: latencies.map(|latencies| latencies.percentiles()),
        refused: group.iter().map(|figure| figure.refused).sum(),
    }
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (&[][..], 0.0_f64),
            (&[3.0], 3.0),
            (&[9.0, 1.0], 5.0),
            (&[9.0, 1.0, 2.0], 2.0),
        ] {
            assert_eq!(median(values).to_bits(), expected.to_bits(), "{values:?}");
        }
    }

    #[test]
    fn repetitions_of_one_target_are_put_together() {
        let figure = |workload, target, value: f64| {
            let mut latencies = Latencies::new();
            latencies.record(Duration::from_millis(value as u64));
            Figure {
                name: Name {
                    workload,
                    size: Some(Size::Small),
                },
                of: Measurand {
                    kind: Kind::Nsqlookupd,
                    target,
                },
                unit: Unit::PerSecond,
                value,
                latencies: Some(latencies),
                refused: 1,
            }
        };
        let figures = [
            figure("b", 0, 10.0),
            figure("b", 1, 20.0),
            figure("a", 0, 30.0),
            figure("b", 0, 50.0),
        ];
        let summaries = summarize(&figures);
        let told: Vec<(String, usize, f64, u64)> = summaries
            .iter()
            .map(|summary| {
                let Summary { name, of, .. } = summary;
                (name.to_string(), of.target, summary.median, summary.refused)
            })
            .collect();
        let expected = [
            ("b small".into(), 0, 30.0, 2),
            ("b small".into(), 1, 20.0, 1),
            ("a small".into(), 0, 30.0, 1),
        ];
        assert_eq!(told, expected);
        let latency = summaries[0].latency_ms.unwrap();
        assert_eq!(latency.count, 2);
        assert!(latency.max >= 50.0, "{latency:?}");
    }
}
