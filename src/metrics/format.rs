//! Rewrites metrics from OpenMetrics to the older text format of Prometheus, which a scraper gets
//! that does not ask for OpenMetrics.

/// The same metrics in text format 0.0.4. There a counter's name ends in `_total` in its help and
/// type too, and nothing marks the end.
pub(crate) fn to_text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
            continue;
        }
        let Some(typed) = line.strip_prefix("# TYPE ") else {
            if !line.starts_with('#') {
                text.extend([line, "\n"]);
            }
            continue;
        };
        let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
        let suffix = match kind {
            "counter" => "_total",
            _ => "",
        };
        if let Some((_, help)) = help.take() {
            text.extend(["# HELP ", name, suffix, " ", help, "\n"]);
        }
        text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_named_in_full() {
        let open_metrics = "# HELP a_reads Reads by kind.\n# TYPE a_reads counter\n\
            a_reads_total{kind=\"x\"} 2\n# HELP a_claims Claims.\n# TYPE a_claims gauge\n\
            # UNIT a_claims claims\na_claims 7\n# EOF\n";
        let expected = "# HELP a_reads_total Reads by kind.\n# TYPE a_reads_total counter\n\
            a_reads_total{kind=\"x\"} 2\n# HELP a_claims Claims.\n# TYPE a_claims gauge\n\
            a_claims 7\n";
        assert_eq!(to_text_format(open_metrics), expected);
    }
}
