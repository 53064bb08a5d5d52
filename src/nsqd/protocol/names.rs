//! Validates names of topics and channels, for V1 and HTTP. PURE.

/// The longest name, in bytes, its `#ephemeral` included.
const LONGEST: usize = 64;

/// Upstream's rule: 1 to 64 of `.a-zA-Z0-9_-`, the end may be `#ephemeral`.
pub(crate) fn is_valid_name(name: &[u8]) -> bool {
    let base = name.strip_suffix(b"#ephemeral").unwrap_or(name);
    name.len() <= LONGEST
        && !base.is_empty()
        && base
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_upstreams_rule() {
        let longest = "a".repeat(64);
        let longest_ephemeral = "a".repeat(54) + "#ephemeral";
        for name in [
            "a",
            ".",
            "-",
            "_",
            "A.b-c_9",
            "t#ephemeral",
            &longest,
            &longest_ephemeral,
        ] {
            assert!(is_valid_name(name.as_bytes()), "{name}");
        }
        let too_long = "a".repeat(65);
        let too_long_ephemeral = "a".repeat(55) + "#ephemeral";
        for name in [
            "",
            "*",
            "a b",
            "a*",
            "a#",
            "#ephemeral",
            "a#ephemeral#ephemeral",
            "a#Ephemeral",
            "ä",
            "a\n",
            &too_long,
            &too_long_ephemeral,
        ] {
            assert!(!is_valid_name(name.as_bytes()), "{name}");
        }
    }
}
