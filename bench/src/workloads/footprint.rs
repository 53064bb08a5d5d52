//! What a registry takes: memory and disk.

use crate::error::Result;
use crate::figures::Unit;
use crate::stage::Stage;

/// Of the member with the most, when all is registered and nothing was asked yet.
const REGISTERED: &str = "memory-registered";
/// Of the member with the most, at its worst moment, after all queries.
const PEAK: &str = "memory-peak";
/// Of the member with the most, for each registration.
const DISK: &str = "disk-per-registration";

pub(super) const WORKLOADS: &[&str] = &[REGISTERED, PEAK, DISK];

/// What was on disk before there were registrations.
#[derive(Debug)]
pub(super) struct Disk(Option<u64>);

impl Disk {
    pub(super) fn before(stage: &Stage<'_>) -> Result<Disk> {
        stage.target.disk().map(Disk)
    }

    /// Notes by how much it has grown.
    pub(super) fn after(self, stage: &mut Stage<'_>, registrations: usize) -> Result<()> {
        if let (Some(before), Some(after)) = (self.0, stage.target.disk()?) {
            let grown = after.saturating_sub(before) as f64;
            stage.note(DISK, Unit::Bytes, grown / registrations as f64);
        }
        Ok(())
    }
}

pub(super) fn registered(stage: &mut Stage<'_>) -> Result<()> {
    if let Some(memory) = stage.target.memory()? {
        stage.note(REGISTERED, Unit::Megabytes, megabytes(memory.resident));
    }
    Ok(())
}

pub(super) fn peak(stage: &mut Stage<'_>) -> Result<()> {
    if let Some(memory) = stage.target.memory()? {
        stage.note(PEAK, Unit::Megabytes, megabytes(memory.peak));
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
