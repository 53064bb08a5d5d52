//! Says which nsqlookupd this program speaks like, and which raftlookupd it is.
//!
//! What reads a lookupd's version expects nsqlookupd's: nsqadmin before 1.0 chooses its paths by
//! it, and gnsq parses it. So that one comes first, in upstream's form, and ours behind it.

/// The nsqlookupd whose behaviour this program has, as IDENTIFY and `/info` give it.
pub const NSQLOOKUPD: &str = "1.3.0";

/// raftlookupd's own version.
pub const RAFTLOOKUPD: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, or `unknown`.
pub const COMMIT: &str = env!("BUILT_FROM");

/// The first line of `--version` and of the log.
pub fn nsqlookupd_line() -> String {
    let built_with = env!("BUILT_WITH");
    format!("nsqlookupd v{NSQLOOKUPD} (built w/{built_with})")
}

/// The second line of both.
pub fn raftlookupd_line() -> String {
    format!("raftlookupd v{RAFTLOOKUPD} (commit {COMMIT})")
}

/// What `--version` prints.
pub fn lines() -> String {
    format!("{}\n{}", nsqlookupd_line(), raftlookupd_line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_upstreams() {
        let lines = lines();
        let (first, second) = lines.split_once('\n').unwrap();
        let compiler = first.strip_prefix("nsqlookupd v1.3.0 (built w/rust");
        let compiler = compiler.and_then(|rest| rest.strip_suffix(')')).unwrap();
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        assert!(compiler.split(['.', '-']).take(3).all(digits), "{first}");
        let own = format!("raftlookupd v{RAFTLOOKUPD} (commit ");
        assert!(
            second.starts_with(&own) && second.len() > own.len() + 1,
            "{second}"
        );
    }
}
