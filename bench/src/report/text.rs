//! Tables for people.

use std::fmt::Write as _;

use crate::figures::{Figure, Summary};
use crate::latency::Percentiles;
use crate::report::goals::Verdict;

/// One line for a figure that has just been measured.
pub(crate) fn progress(figure: &Figure) -> String {
    let latency = figure.latencies.as_ref();
    let latency = latency.map(|latencies| latencies.percentiles());
    let (name, kind, unit) = (figure.name, figure.of.kind, figure.unit);
    let line = format!(
        "  {name:<40}{kind:<12}{:>12} {unit:<8}",
        number(figure.value)
    );
    line + &latencies(latency) + &refused(figure.refused)
}

/// All figures, and what has become of the promises.
pub(crate) fn tables(
    targets: &[String],
    summaries: &[Summary],
    verdicts: &[Verdict],
    closed_loop: bool,
) -> String {
    let mut text = String::new();
    // A String takes whatever is written to it.
    let _ = writeln!(text, "\n{}", measures(closed_loop));
    let _ = writeln!(
        text,
        "\nworkload and size                       target              median"
    );
    for summary in summaries {
        let target = targets.get(summary.of.target).map_or("", String::as_str);
        let median = number(summary.median);
        let (name, unit) = (summary.name, summary.unit);
        let line = format!("{name:<40}{target:<14}{median:>12} {unit:<8}");
        let line = line + &latencies(summary.latency_ms) + &refused(summary.refused);
        let _ = writeln!(text, "{}{}", line.trim_end(), spread(summary));
    }
    if !verdicts.is_empty() {
        let _ = writeln!(
            text,
            "\npromise                                         ours        peer       ratio      target"
        );
    }
    for verdict in verdicts {
        let what = match verdict.statistic {
            Some(statistic) => format!("{} {statistic}", verdict.what),
            None => verdict.what.to_string(),
        };
        let (peer, ratio) = match &verdict.against {
            Some(against) => (number(against.value), format!("{:.2}x", against.ratio)),
            None => (String::new(), String::new()),
        };
        let against = verdict.against.as_ref();
        let against = against.map(|against| format!("{}, {}", against.kind, against.what));
        let met = if verdict.met { "met" } else { "MISSED" };
        let (ours, target) = (number(verdict.ours), verdict.target);
        let _ = writeln!(
            text,
            "{what:<40}{ours:>12}{peer:>12}{ratio:>12}  {target:>10}  {met:<8}{}",
            against.unwrap_or_default()
        );
    }
    text
}

fn measures(closed_loop: bool) -> &'static str {
    if closed_loop {
        "Closed loop: rates are throughput, latencies are service times (milliseconds)."
    } else {
        "Open loop: latencies are from when an operation was due (milliseconds)."
    }
}

fn latencies(latency: Option<Percentiles>) -> String {
    latency.map_or(String::new(), |latency| {
        let Percentiles {
            p50,
            p99,
            p999,
            max,
            ..
        } = latency;
        format!("p50 {p50:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.1}")
    })
}

fn refused(count: u64) -> String {
    match count {
        0 => String::new(),
        count => format!("  refused {count}"),
    }
}

/// How far the repetitions lie apart.
fn spread(summary: &Summary) -> String {
    if summary.values.len() < 2 {
        return String::new();
    }
    let least = summary.values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = summary.values.iter().copied().fold(0.0, f64::max);
    format!("  ({} to {})", number(least), number(most))
}

/// With the digits that matter.
fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Measurand, Name, Unit};
    use crate::report::goals::judge;
    use crate::size::Size;
    use crate::targets::Kind;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        for (value, text) in [
            (0.0, "0.000"),
            (0.1234, "0.123"),
            (2.345, "2.3"),
            (123.4, "123"),
            (48_999.6, "49000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn the_tables_say_who_missed_what() {
        let summary = |kind, target, median| Summary {
            name: Name {
                workload: "lookup-8",
                size: Some(Size::Small),
            },
            of: Measurand { kind, target },
            unit: Unit::PerSecond,
            median,
            values: vec![median, median / 2.0],
            latency_ms: None,
            refused: 0,
        };
        let summaries = [
            summary(Kind::Raftlookupd, 0, 24_000.0),
            summary(Kind::Nsqlookupd, 1, 48_000.0),
        ];
        let targets = ["raftlookupd".to_string(), "nsqlookupd".to_string()];
        let text = tables(&targets, &summaries, &judge(&summaries), true);
        assert!(text.contains("Closed loop"), "{text}");
        assert!(text.contains("(24000 to 48000)"), "{text}");
        let missed = text.lines().find(|line| line.contains("MISSED")).unwrap();
        assert!(missed.contains("0.50x"), "{missed}");
    }
}
