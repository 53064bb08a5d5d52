//! Parses and formats durations as Go does: `300ms`, `1h30m`, `1.5s`, `5m0s`; `0` needs no unit.

use std::ops::Range;
use std::time::Duration;

/// Go counts in signed 64-bit nanoseconds, so nsqlookupd refuses more than these 292 years.
const MOST_NANOS: u128 = i64::MAX as u128;

/// nsqlookupd's error for a value that is not a duration; the example is ours.
const PARSE_ERROR: &str = "parse error: write a number with a unit, like 300ms, 45s or 1h30m";

/// Parses one duration.
///
/// # Errors
/// A text that begins with `parse error`, as Go's flag package has it.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') && text != "-0" {
        return Err("parse error: a duration cannot be negative".into());
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = digits;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, after_number) = split_where(rest, |c| !c.is_ascii_digit() && c != '.');
        let (unit, after_unit) = split_where(after_number, |c| c.is_ascii_digit() || c == '.');
        let part = part_nanos(number, unit_nanos(unit).ok_or(PARSE_ERROR)?).ok_or(PARSE_ERROR)?;
        nanos = nanos.saturating_add(part);
        rest = after_unit;
    }
    if digits.is_empty() || nanos > MOST_NANOS {
        return Err(PARSE_ERROR.into());
    }
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| PARSE_ERROR.into())
}

/// Formats a duration as Go's `Duration.String` does.
pub(crate) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        let nanos = u64::from(duration.subsec_nanos());
        return match nanos {
            0 => "0s".into(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}\u{b5}s", decimal(nanos, 3)),
            _ => format!("{}ms", decimal(nanos, 6)),
        };
    }
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let rest = (seconds % 60) * 1_000_000_000 + u64::from(duration.subsec_nanos());
    let rest = decimal(rest, 9);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// The number with this many digits behind the point, without zeros at the end.
fn decimal(number: u64, digits: u32) -> String {
    let unit = 10_u64.pow(digits);
    let fraction = format!("{:0width$}", number % unit, width = digits as usize);
    let text = format!("{}.{}", number / unit, fraction.trim_end_matches('0'));
    text.trim_end_matches('.').to_string()
}

/// Parses `300ms..600ms`: from (at least 1ms) to (more than that).
///
/// # Errors
/// What would be right.
pub(crate) fn parse_range(text: &str) -> Result<Range<Duration>, String> {
    let example = "write the shortest and the longest, like 300ms..600ms";
    let (start, end) = text.split_once("..").ok_or(example)?;
    let start = parse_duration(start.trim()).map_err(|_| example)?;
    let end = parse_duration(end.trim()).map_err(|_| example)?;
    if start < Duration::from_millis(1) || end < start + Duration::from_millis(1) {
        return Err(format!(
            "the first must be at least 1ms, and shorter than the second: {example}"
        ));
    }
    Ok(start..end)
}

fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter look the same.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return None,
    })
}

/// `1.5` of a unit; `1.` and `.5` are fine, `.` is not.
fn part_nanos(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut nanos = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.bytes() {
        scale /= 10;
        nanos = nanos.checked_add(u128::from(digit - b'0') * scale)?;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5m0s", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("300ms", 300_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+45s", 45_000_000_000),
            ("1ns", 1),
            ("2us", 2_000),
            ("2\u{b5}s", 2_000),
            ("2\u{3bc}s", 2_000),
            ("1s1s", 2_000_000_000),
            ("1m1ms1ns", 60_001_000_001),
            ("0.0000000001s", 0),
            ("9223372036854775807ns", u64::MAX / 2),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
    }

    #[test]
    fn formats() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_000, "1\u{b5}s"),
            (12_345, "12.345\u{b5}s"),
            (300_000_000, "300ms"),
            (1_234_567, "1.234567ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_400_000_000_001, "1h30m0.000000001s"),
        ] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }

    #[test]
    fn no_go_durations() {
        for text in [
            "",
            "+",
            "-",
            "5",
            "soon",
            "5 s",
            "1d",
            ".s",
            "1..5s",
            "s",
            "1s5",
            "-5s",
            " 5s",
            "5s ",
            "\u{665}s",
            "1e3s",
            "9223372036854775808ns",
            "300000h300000000000h",
            "340282366920938463463374607431768211456h",
        ] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.starts_with("parse error"), "{text}: {error}");
        }
    }

    #[test]
    fn ranges() {
        let millis = Duration::from_millis;
        assert_eq!(parse_range("300ms..600ms"), Ok(millis(300)..millis(600)));
        assert_eq!(parse_range("1s .. 2s"), Ok(millis(1000)..millis(2000)));
        for text in [
            "",
            "300ms",
            "600ms..300ms",
            "1s..1s",
            "0..1s",
            "a..b",
            "1s..2s..3s",
            "1s-2s",
        ] {
            let error = parse_range(text).expect_err(text);
            assert!(error.contains("300ms..600ms"), "{text}: {error}");
        }
    }
}
