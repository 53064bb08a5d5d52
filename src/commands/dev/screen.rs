//! Prints what the user sees: the members' log lines with their names, and our own.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use super::plan::Plan;

/// Standard output. Cheap to clone.
#[derive(Clone)]
pub(super) struct Screen {
    names: Arc<Vec<String>>,
    colours: bool,
}

impl Screen {
    pub(super) fn new(plan: &Plan) -> Screen {
        let names = plan.members.iter().map(|place| place.name.clone());
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen {
            names: Arc::new(names.collect()),
            colours: wanted && std::io::stdout().is_terminal(),
        }
    }

    /// A line of a member.
    pub(super) fn member_line(&self, index: usize, line: &str) {
        let name = self.names.get(index).map_or("?", String::as_str);
        // Cyan, yellow, green, magenta, blue.
        let colour = [36, 33, 32, 35, 34][index % 5];
        self.write(&format!("{} | {line}\n", self.coloured(name, colour)));
    }

    /// A line of our own. Only its first line is marked, so that commands below can be copied.
    pub(super) fn say(&self, line: &str) {
        self.write(&format!("{} {line}\n", self.coloured("==>", 1)));
    }

    /// Several lines, as they are.
    pub(super) fn block(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    fn coloured(&self, text: &str, colour: u8) -> String {
        if self.colours {
            format!("\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }

    fn write(&self, text: &str) {
        // In one piece, so that lines do not mix. If it cannot be written, the cluster still runs.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}
