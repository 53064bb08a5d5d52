//! Finds the registry at a start: in the tables, or else in a snapshot file, with which the tables are
//! rebuilt.
//!
//! The log then continues the registry, wherever it was found. So it must not end before the log
//! begins, and if it does, or the tables are damaged, the newest whole snapshot file that reaches the
//! log takes their place. A log that was never purged continues the empty registry.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::registration_store::Loaded;
use super::registration_store::expendable::{discard, is_damage, set_aside};
use super::{FORMAT, Store, layout};
use crate::error::{Error, Result};
use crate::log::LogTable;
use crate::registry::db::RegistrationDb;
use crate::snapshots::SnapshotFiles;

/// Tables of this size are never rebuilt for their size alone.
const SMALL_TABLES: u64 = 64 << 20;

/// Tables are rebuilt if they are this many times as large as their contents. Without garbage, sled
/// takes up to twice their size.
const MOST_TIMES_CONTENTS: u64 = 4;

/// The registry that a data path holds.
#[derive(Debug, Default)]
pub struct LoadedRegistry {
    /// The registry.
    pub db: RegistrationDb,
    /// The mark that was stored with it; `None` if nothing was ever applied.
    pub mark: Option<Vec<u8>>,
    /// Why the tables had to be rebuilt.
    pub rebuilt: Option<String>,
}

/// Why the tables cannot be used.
struct Damaged(String);

impl Store {
    /// Finds the registry, rebuilds the tables if need be, and makes sure that a snapshot file has
    /// what the log no longer has. `index_of` returns the index of the last entry that is applied
    /// at a mark.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if neither the tables nor a snapshot file have what the log lacks,
    /// [`Error::Io`] if reading or writing fails, and those of `index_of`.
    pub fn load_registry(
        &self,
        index_of: impl Fn(&[u8]) -> Result<Option<u64>>,
    ) -> Result<LoadedRegistry> {
        let lost = self.tables_lost.lock();
        let lost = lost.unwrap_or_else(PoisonError::into_inner).take();
        let registry = match lost {
            Some(reason) => self.rebuild(reason, false, &index_of)?,
            None => match self.load_tables(&index_of)? {
                Ok(registry) => registry,
                Err(Damaged(reason)) => self.rebuild(reason, true, &index_of)?,
            },
        };
        let index = registry.mark.as_deref().map(&index_of).transpose()?;
        self.cover(&registry, index.flatten())?;
        if self.format != FORMAT {
            layout::save_format(&self.data_path)?;
        }
        Ok(registry)
    }

    fn load_tables(
        &self,
        index_of: &impl Fn(&[u8]) -> Result<Option<u64>>,
    ) -> Result<std::result::Result<LoadedRegistry, Damaged>> {
        let loaded = match self.registrations.load() {
            Err(error) if is_damage(&error) => return Ok(Err(Damaged(reason_of(&error)))),
            loaded => loaded?,
        };
        let Some(Loaded { db, mark, bytes }) = loaded else {
            return Ok(match self.missing_behind(None)? {
                Some(missing) => Err(Damaged(format!("it is empty, {missing}"))),
                None => Ok(LoadedRegistry::default()),
            });
        };
        let index = index_of(&mark)?;
        if let Some(missing) = self.missing_behind(index)? {
            let index = index.unwrap_or(0);
            let reason = format!("it ends at entry {index}, {missing}");
            return Ok(Err(Damaged(reason)));
        }
        self.shrink_tables(&db, &mark, bytes)?;
        Ok(Ok(LoadedRegistry {
            db,
            mark: Some(mark),
            rebuilt: None,
        }))
    }

    /// What shows that a registry that ends at this index is not all there was.
    fn missing_behind(&self, index: Option<u64>) -> Result<Option<String>> {
        if let Some(purged) = purged_index(&self.log)?.filter(|purged| index < Some(*purged)) {
            return Ok(Some(format!("the log begins after entry {purged}")));
        }
        let newer = self.snapshots.newest().filter(|newer| index < Some(*newer));
        Ok(newer.map(|newer| format!("the newest snapshot at entry {newer}")))
    }

    /// Rebuilds tables that consist mostly of garbage: their files never shrink by themselves.
    fn shrink_tables(&self, db: &RegistrationDb, mark: &[u8], contents: u64) -> Result<()> {
        let bytes = self.registrations.disk_bytes()?;
        let most = contents.saturating_mul(MOST_TIMES_CONTENTS);
        if bytes <= most.max(SMALL_TABLES) || !self.is_expendable()? {
            return Ok(());
        }
        self.registrations.start_over(discard)?;
        self.registrations.install(db, mark)?;
        let now = self.registrations.disk_bytes()?;
        tracing::info!(
            bytes,
            now,
            "rebuilt the registry's tables, which were mostly garbage"
        );
        Ok(())
    }

    /// Whether the registry could be rebuilt without the tables.
    fn is_expendable(&self) -> Result<bool> {
        let Some(purged) = purged_index(&self.log)? else {
            return Ok(true);
        };
        let newest = self.snapshots.newest().filter(|newest| *newest >= purged);
        Ok(newest.is_some_and(|newest| self.snapshots.open_whole(newest).is_ok()))
    }

    /// Finds the registry without the tables, and puts it into these if they are new, or into others.
    fn rebuild(
        &self,
        reason: String,
        damaged: bool,
        index_of: &impl Fn(&[u8]) -> Result<Option<u64>>,
    ) -> Result<LoadedRegistry> {
        check_rebuildable(&self.data_path, &self.log, &self.snapshots, &reason)?;
        let found = self.newest_whole(&reason)?;
        if damaged {
            let mut aside = None;
            self.registrations.start_over(|data_path| {
                aside = set_aside(data_path)?;
                Ok(())
            })?;
            log_set_aside(aside, &reason);
        }
        let mut registry = LoadedRegistry {
            db: RegistrationDb::new(),
            mark: None,
            rebuilt: Some(reason),
        };
        let mut from = None;
        if let Some((db, mark)) = found {
            self.registrations.install(&db, &mark)?;
            from = index_of(&mark)?;
            registry.db = db;
            registry.mark = Some(mark);
        }
        tracing::warn!(
            reason = registry.rebuilt,
            snapshot = from,
            "the registry's tables were damaged: rebuilt from snapshot and log, nothing is lost"
        );
        Ok(registry)
    }

    /// The newest whole snapshot that reaches the log; `None` if the log needs none.
    fn newest_whole(&self, reason: &str) -> Result<Option<(RegistrationDb, Vec<u8>)>> {
        let purged = purged_index(&self.log)?;
        let mut damaged = Vec::new();
        let mut found = None;
        for index in self.snapshots.newest_first() {
            if Some(index) < purged {
                break;
            }
            match self.snapshots.load(index) {
                Ok(decoded) => {
                    found = Some((decoded.db, decoded.mark));
                    break;
                }
                Err(error) if is_damage(&error) => {
                    tracing::warn!(index, %error, "a snapshot file is damaged");
                    damaged.push(index);
                }
                Err(error) => return Err(error),
            }
        }
        if let (None, Some(purged)) = (&found, purged) {
            return Err(unusable(&self.data_path, reason, purged));
        }
        // The new tables will end before them.
        damaged
            .into_iter()
            .for_each(|index| self.snapshots.set_aside(index));
        Ok(found)
    }

    /// Takes a snapshot if no file has what the log lacks. It may lack entries at its beginning,
    /// which were purged, and those at its end that followed an installed snapshot.
    fn cover(&self, registry: &LoadedRegistry, index: Option<u64>) -> Result<()> {
        let end = self.log.last_index().max(purged_index(&self.log)?);
        let needed = match index {
            Some(index) if end < Some(index) => Some(index),
            _ => purged_index(&self.log)?,
        };
        let (Some(needed), Some(index), Some(mark)) = (needed, index, &registry.mark) else {
            return Ok(());
        };
        if self.snapshots.contain(needed) {
            return Ok(());
        }
        if let Some(frozen) = self.registrations.freeze(&registry.db, mark)? {
            let bytes = frozen.write_to(&self.snapshots, index)?;
            tracing::info!(index, bytes, "took the snapshot that the log relies on");
        }
        Ok(())
    }
}

/// Fails if the log does not begin at the beginning, and no snapshot file reaches it.
pub(super) fn check_rebuildable(
    data_path: &Path,
    log: &LogTable,
    snapshots: &SnapshotFiles,
    reason: &str,
) -> Result<()> {
    match purged_index(log)? {
        Some(purged) if !snapshots.contain(purged) => Err(unusable(data_path, reason, purged)),
        _ => Ok(()),
    }
}

pub(super) fn log_set_aside(aside: Option<PathBuf>, reason: &str) {
    if let Some(aside) = aside {
        let aside = aside.display();
        tracing::info!(%aside, reason, "set the registry's damaged tables aside");
    }
}

/// What is wrong, in one clause.
pub(super) fn reason_of(error: &Error) -> String {
    match error {
        Error::Corrupt { what, .. } => what.clone(),
        other => other.to_string(),
    }
}

fn unusable(data_path: &Path, reason: &str, purged: u64) -> Error {
    let what = format!(
        "the registry's tables cannot be used ({reason}), and there is no whole snapshot file that \
         reaches the log, which begins after entry {purged}"
    );
    Error::corrupt(data_path, what)
}

fn purged_index(log: &LogTable) -> Result<Option<u64>> {
    Ok(log.purge_point()?.map(|(index, _)| index))
}
