//! Where it was measured: figures mean nothing without it.

use std::fs;

use serde::Serialize;

/// This machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_gb: f64,
    pub(crate) kernel: String,
}

impl Machine {
    /// What the kernel tells; what it does not tell stays empty.
    pub(crate) fn look() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let kilobytes = field(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = kilobytes.trim_end_matches(" kB").parse::<f64>();
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            memory_gb: (kilobytes.unwrap_or(0.0) / 1e5).round() / 10.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
        }
    }
}

/// The first value of this name in the kernel's `name: value` lines.
fn field(text: &str, name: &str) -> String {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let mut found = pairs.filter(|(key, _)| key.trim() == name);
    found.next().map_or("", |(_, value)| value.trim()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let text = "processor\t: 0\nmodel name\t: A: fast one\nmodel name\t: B\n";
        assert_eq!(field(text, "model name"), "A: fast one");
        assert_eq!(field(text, "MemTotal"), "");
    }
}
