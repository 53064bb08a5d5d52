//! One process that was started for a run; killed when it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{Error, Result};

/// How a member is started, and its process.
#[derive(Debug)]
pub(crate) struct Process {
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    data: Option<PathBuf>,
    child: Option<Child>,
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: u64,
    /// At the worst moment of its life.
    pub(crate) peak: u64,
}

impl Memory {
    /// The larger of each.
    pub(super) fn most(self, other: Memory) -> Memory {
        Memory {
            resident: self.resident.max(other.resident),
            peak: self.peak.max(other.peak),
        }
    }
}

impl Process {
    /// A process that is not started yet. What it keeps is in `data`.
    pub(super) fn new(
        program: &Path,
        args: Vec<String>,
        log: PathBuf,
        data: Option<PathBuf>,
    ) -> Process {
        Process {
            program: program.into(),
            args,
            log,
            data,
            child: None,
        }
    }

    /// # Errors
    /// [`Error::Io`].
    pub(super) fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(Error::io(format!("open {}", self.log.display())))?;
        let child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = child.map_err(Error::io(format!("start {}", self.program.display())))?;
        self.child = Some(child);
        Ok(())
    }

    /// # Errors
    /// [`Error::Io`].
    pub(super) fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let killed = child.kill().and_then(|()| child.wait());
        killed.map(drop).map_err(Error::io("kill a process"))
    }

    /// # Errors
    /// [`Error::Io`].
    pub(super) fn memory(&self) -> Result<Memory> {
        let id = self.child.as_ref().map_or(0, Child::id);
        let path = format!("/proc/{id}/status");
        let status = fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
        parse_memory(&status).ok_or_else(|| Error::Answer(format!("{path} without memory")))
    }

    /// The bytes that it keeps on disk; `None` if it keeps nothing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn disk(&self) -> Result<Option<u64>> {
        let used = |path: &PathBuf| {
            let what = format!("look through {}", path.display());
            disk_usage(path).map_err(Error::io(what))
        };
        self.data.as_ref().map(used).transpose()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody can do anything about a process that cannot be killed.
        let _ = self.kill();
    }
}

/// From the kernel's `status` of a process.
fn parse_memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes = line.trim().strip_suffix(" kB")?;
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    };
    let resident = bytes("VmRSS:")?;
    Some(Memory {
        resident,
        // The kernel notes it late.
        peak: bytes("VmHWM:")?.max(resident),
    })
}

/// What the files take, holes not counted.
fn disk_usage(path: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;

    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => disk_usage(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_text() {
        let status = "Name:\tx\nVmPeak:\t   99 kB\nVmHWM:\t   12 kB\nVmRSS:\t   10 kB\n";
        let memory = Memory {
            resident: 10 * 1024,
            peak: 12 * 1024,
        };
        assert_eq!(parse_memory(status), Some(memory));
        assert_eq!(parse_memory("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_is_killed_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let args = vec!["60".into()];
        let mut process = Process::new(Path::new("sleep"), args, log, Some(folder.path().into()));
        process.start().unwrap();
        assert!(process.memory().unwrap().peak > 0);
        fs::write(folder.path().join("data"), [1; 5000]).unwrap();
        assert!(process.disk().unwrap().unwrap() >= 5000);
        let id = process.child.as_ref().unwrap().id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
