//! Prints the usage text: nsqlookupd's flags as Go prints them, then raftlookupd's own.

use clap::Arg;

use super::flags::{OWN, UPSTREAM, declared, type_name};

/// The widths of our own flags and of their explanations.
const COLUMNS: (usize, usize) = (36, 60);

/// What `--help` prints.
pub fn usage() -> String {
    let flags = declared();
    let under = |heading| {
        flags
            .iter()
            .filter(move |flag| flag.get_help_heading() == Some(heading))
    };
    let upstream: String = under(UPSTREAM).map(as_go_prints).collect();
    let own: String = under(OWN).map(in_columns).collect();
    format!(
        "Usage of raftlookupd:\n\
         \x20 raftlookupd [flags]         run a member; without --initial-cluster, a cluster of one\n\
         \x20 raftlookupd dev [flags]     run a whole cluster on this machine\n\
         \x20 raftlookupd import [flags]  copy what running nsqlookupds list into a cluster\n\
         \x20 raftlookupd diff [flags]    compare running nsqlookupds with a cluster\n\
         \x20 raftlookupd recover [flags] show what data paths hold; a new cluster when the quorum is lost\n\
         \x20 raftlookupd help [command]  show this text, or the flags of a command\n\
         \x20 raftlookupd version         show the versions\n\n\
         nsqlookupd's flags, with one dash or two:\n{upstream}\n\
         raftlookupd's own flags:\n{own}\n\
         Each flag can also be set by an environment variable (--data-path: RAFTLOOKUPD_DATA_PATH) or\n\
         a key in the config file (data_path). Flags take precedence over the environment, and the\n\
         environment over the file.\n"
    )
}

fn as_go_prints(flag: &Arg) -> String {
    let kind = match type_name(flag) {
        "bool" => String::new(),
        kind => format!(" {kind}"),
    };
    format!("  -{}{kind}\n    \t{}\n", name(flag), help(flag))
}

fn in_columns(flag: &Arg) -> String {
    let (left, right) = COLUMNS;
    let mut rows = vec![String::new()];
    for word in help(flag).split(' ') {
        match rows.last_mut() {
            Some(row) if row.is_empty() => row.push_str(word),
            Some(row) if row.len() + 1 + word.len() <= right => *row += &format!(" {word}"),
            _ => rows.push(word.to_string()),
        }
    }
    let flag_and_type = format!("--{} {}", name(flag), type_name(flag));
    let firsts = std::iter::once(flag_and_type.as_str()).chain(std::iter::repeat(""));
    let rows = firsts.zip(rows);
    rows.map(|(first, row)| format!("  {first:<left$} {row}\n"))
        .collect()
}

fn name(flag: &Arg) -> &str {
    flag.get_long().unwrap_or_default()
}

fn help(flag: &Arg) -> String {
    let help = flag.get_help().map(ToString::to_string);
    help.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::canonical::{Source, canonical};
    use crate::config::flags::Flags;

    #[test]
    fn nsqlookupds_flags_look_as_they_did() {
        let usage = usage();
        assert!(usage.starts_with("Usage of "), "{usage}");
        for text in [
            "  -config string\n    \tpath to config file\n",
            "  -tombstone-lifetime duration\n    \tduration of time a producer will remain tombstoned if registration remains (default 45s)\n",
            "  -verbose\n    \t[deprecated] has no effect, use --log-level\n",
            "  --data-path string ",
        ] {
            assert!(usage.contains(text), "{text:?} is not in {usage}");
        }
        assert!(!usage.contains("stdin"), "{usage}");
    }

    /// The texts name the defaults; here they are read back and compared.
    #[test]
    fn the_defaults_are_true() {
        let told: Vec<String> = declared()
            .iter()
            .filter_map(|flag| {
                let help = help(flag);
                let (_, default) = help.rsplit_once("(default ")?;
                let default = default.strip_suffix(')')?.trim_matches('"');
                (!default.starts_with("to ")).then(|| canonical(name(flag), default))
            })
            .collect();
        assert!(told.len() > 8, "{told:?}");
        let told = Flags::parse_canonical(&told, Source::CommandLine).unwrap();
        assert_eq!(
            Config::resolve(told, "h").unwrap(),
            Config::resolve(Flags::default(), "h").unwrap()
        );
    }
}
