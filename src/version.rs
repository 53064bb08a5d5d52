//! What the program calls itself.

/// The version of this program, as IDENTIFY and `/info` tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The line of `--version`, which is also the first line of the log. It begins as nsqlookupd's
/// does, since scripts parse it; what is in parentheses says who really answers.
pub fn version_line() -> String {
    let built_with = env!("RAFTLOOKUPD_BUILT_WITH");
    format!("nsqlookupd v{VERSION} (built w/{built_with}; raftlookupd)")
}
