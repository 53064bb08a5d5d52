//! Stores the registry on disk, written behind, with one table per *generation*.
//!
//! A topic with everything that belongs to it is one value (`topic_pieces`); the other rows are
//! values of their own. Changes are not written at once: they are remembered (`unwritten`) and
//! later written in one batch, together with the head row, which says how far the log was applied
//! and which state hash resulted. Installing a snapshot writes a new generation beside the current
//! one and then makes it current with a single write. So a crash leaves the old registry or the new
//! one, never a part of either.
//!
//! Writes are not synced unless a function says so, and the tables are expendable: what a crash loses
//! or damages is rebuilt from a snapshot file and the log. For a snapshot the tables are *frozen*: they
//! stay as they are while they are copied into a file, and changes are remembered meanwhile.

pub(crate) mod expendable;
mod frozen;
mod generation;
mod sled_engine;
mod sweeper;
mod topic_pieces;
mod unwritten;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::record_file::{seal, unseal};
use crate::disk::write_gate::WriteGate;
use crate::encoding::{decode, encode};
use crate::error::{Error, Result};
use crate::registry::db::{Change as RegistryChange, Loader, RegistrationDb};
pub use frozen::Frozen;
use generation::{Generation, HEAD_KEY, Record, head, number_of};
use sled_engine::{Change, Engine, Table, guarded};
use sweeper::Sweeper;
use unwritten::{Since, Taken, Unwritten};

/// The tables' folder in the data path.
pub(crate) const FOLDER: &str = expendable::FOLDER;

/// The key of the current generation's number.
const CURRENT_KEY: &[u8] = b"generation";

const ROWS_DIFFER: &str = "registry rows are missing or changed";

/// The registry on disk. Clones are handles on the same registry.
#[derive(Clone)]
pub struct RegistrationStore(Arc<Inner>);

struct Inner {
    gate: WriteGate,
    /// Locked while changes are noted or written.
    current: Mutex<Current>,
    sweeper: Sweeper,
    /// A snapshot that is being written is to be given up.
    stopping: AtomicBool,
}

struct Current {
    engine: Engine,
    meta: Table,
    generation: Option<Generation>,
    unwritten: Unwritten,
    /// Whether obsolete generations may exist.
    sweep: bool,
    /// Nothing is written or deleted meanwhile.
    frozen: bool,
}

/// A registry that was loaded from disk.
#[derive(Debug)]
pub struct Loaded {
    /// The registry.
    pub db: RegistrationDb,
    /// The mark that was written with it: see [`note`](RegistrationStore::note) and
    /// [`install`](RegistrationStore::install).
    pub mark: Vec<u8>,
    /// The length of all keys and values.
    pub(crate) bytes: u64,
}

impl Current {
    /// Opens or creates the tables in the gate's data path.
    fn open(gate: &WriteGate) -> Result<Current> {
        let engine = Engine::open(gate)?;
        guarded(gate.data_path(), || {
            let meta = engine.table("registrations")?;
            let generation = match read_sealed(gate.data_path(), &meta, CURRENT_KEY)? {
                None => None,
                Some(number) => {
                    let number = decode("the generation", &number)?;
                    Some(Generation::open(&engine, number)?)
                }
            };
            Ok(Current {
                engine,
                meta,
                generation,
                unwritten: Unwritten::default(),
                // After the first write, not before: until then the tables may turn out to be
                // damaged.
                sweep: true,
                frozen: false,
            })
        })
    }
}

impl RegistrationStore {
    /// Opens or creates the tables in the gate's data path.
    pub(crate) fn open(gate: &WriteGate) -> Result<RegistrationStore> {
        Ok(RegistrationStore(Arc::new(Inner {
            gate: gate.clone(),
            current: Mutex::new(Current::open(gate)?),
            sweeper: Sweeper::default(),
            stopping: AtomicBool::new(false),
        })))
    }

    /// Has the tables' folder `removed` and starts with empty tables. What was noted is forgotten.
    pub(crate) fn start_over(&self, removed: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let gate = &self.0.gate;
        let mut current = self.0.current();
        // The old tables are still open. sled names no files except while it opens, so it cannot
        // interfere with the new ones.
        removed(gate.data_path())?;
        *current = Current::open(gate)?;
        Ok(())
    }

    /// Loads the registry and its mark; `None` if nothing was ever written.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if rows are missing or changed, [`Error::Io`] if reading fails.
    pub fn load(&self) -> Result<Option<Loaded>> {
        let current = self.0.current();
        let Some(generation) = &current.generation else {
            return Ok(None);
        };
        let data_path = self.0.data_path();
        guarded(data_path, || {
            let head = read_sealed(data_path, &generation.rows, HEAD_KEY)?
                .ok_or_else(|| Error::corrupt(data_path, "the registry has no head row"))?;
            let (mark, state_hash): (Vec<u8>, u128) = decode("the registry's head", &head)?;
            let mut loader = Loader::default();
            let mut bytes = 0;
            let read = generation.for_each(|record| match record {
                Record::Topic(name, packed) => {
                    bytes += (name.len() + packed.len()) as u64;
                    loader.topic(name, &packed)
                }
                Record::Row(key, value) => {
                    bytes += (key.len() + value.len()) as u64;
                    loader.row(&key, &value)
                }
            });
            let db = read.and_then(|()| loader.finish());
            let db = db.map_err(|error| in_registry(data_path, error))?;
            if db.state_hash() != state_hash {
                return Err(Error::corrupt(data_path, ROWS_DIFFER));
            }
            Ok(Some(Loaded { db, mark, bytes }))
        })
    }

    /// Notes the changes in this registry, which has applied the log up to `mark`. Returns whether
    /// there is enough to [`write`](Self::write), which takes milliseconds.
    #[must_use]
    pub fn note(&self, db: &RegistrationDb, changes: Vec<RegistryChange>, mark: &[u8]) -> bool {
        let mut current = self.0.current();
        current.unwritten.note(changes, mark);
        !current.frozen && current.unwritten.is_due(db)
    }

    /// Writes the changes that were noted, together with the last mark. `db` is the registry that
    /// [`note`](Self::note) was last called with, unchanged since. Not synced. While the tables are
    /// frozen, nothing is written.
    ///
    /// # Errors
    /// [`Error::Io`] if the changes cannot be written. The member must stop then.
    pub fn write(&self, db: &RegistrationDb) -> Result<()> {
        let mut current = self.0.current();
        match current.frozen {
            true => Ok(()),
            false => self.0.write(&mut current, db),
        }
    }

    /// Writes the changes that were noted, and freezes the tables for a snapshot; `None` if they are
    /// frozen already. `db` is as for [`write`](Self::write), and has applied the log up to `mark`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn freeze(&self, db: &RegistrationDb, mark: &[u8]) -> Result<Option<Frozen>> {
        let mut current = self.0.current();
        if current.frozen {
            return Ok(None);
        }
        // A log may have been applied that has changed nothing.
        if current.generation.is_none() {
            current.unwritten.note(Vec::new(), mark);
        }
        self.0.write(&mut current, db)?;
        let Some(generation) = &current.generation else {
            return Err(Error::invariant("the registry was written to no table"));
        };
        let frozen = Frozen::new(self, &current.engine, generation.rows.clone(), db, mark);
        current.frozen = true;
        Ok(Some(frozen))
    }

    /// Replaces the whole registry, durably. A crash leaves the old one or the new one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written. It is then unknown which of the two a restart finds.
    pub fn install(&self, db: &RegistrationDb, mark: &[u8]) -> Result<()> {
        let inner = &*self.0;
        let mut current = inner.current();
        let next = Generation::create(&current.engine)?;
        next.fill(db, mark)?;
        current.engine.sync()?;
        current.unwritten = Unwritten::default();
        inner.set_current(&mut current, next)?;
        current.engine.sync()?;
        current.sweep = true;
        inner.sweep_once(&mut current);
        Ok(())
    }

    /// Makes everything that was written survive a power failure.
    pub(crate) fn sync(&self) -> Result<()> {
        let engine = self.0.current().engine.clone();
        engine.sync()
    }

    /// The size of the tables' files.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.0.current().engine.size_on_disk()
    }

    /// Stops deleting old generations, and writing a snapshot. Deleting continues when the store is
    /// opened again.
    pub(crate) fn shut_down(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        self.0.sweeper.stop();
    }
}

impl Inner {
    fn data_path(&self) -> &Path {
        self.gate.data_path()
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes that were taken and could not be written are lost from memory, so a failure must
    /// stop all writes.
    fn write(&self, current: &mut Current, db: &RegistrationDb) -> Result<()> {
        let outcome = self.write_taken(current, db);
        self.gate.close_if_failed(outcome)?;
        self.sweep_once(current);
        Ok(())
    }

    fn write_taken(&self, current: &mut Current, db: &RegistrationDb) -> Result<()> {
        let Some(Taken { mark, topics, rows }) = current.unwritten.take() else {
            return Ok(());
        };
        let mut batch: Vec<Change> = rows.into_iter().collect();
        for (topic, since) in &topics {
            let first = match (&current.generation, since) {
                (Some(generation), Since::Before) => {
                    generation.rows.get(&topic_pieces::first_key(topic))?
                }
                (Some(generation), Since::Now) => {
                    debug_assert!(
                        generation
                            .rows
                            .get(&topic_pieces::first_key(topic))
                            .is_ok_and(|first| first.is_none()),
                        "topic {topic} was just created but is already stored"
                    );
                    None
                }
                (None, _) => None,
            };
            let packed = db.pack(topic)?;
            topic_pieces::replace(topic, first.as_deref(), packed.as_deref(), &mut batch)?;
        }
        batch.push(head(&mark, db.state_hash())?);
        match &current.generation {
            Some(generation) => generation.rows.batch(batch)?,
            None => {
                let first = Generation::create(&current.engine)?;
                first.rows.batch(batch)?;
                // Second: the current generation must have a head.
                self.set_current(current, first)?;
            }
        }
        Ok(())
    }

    fn set_current(&self, current: &mut Current, generation: Generation) -> Result<()> {
        debug_assert!(
            current
                .generation
                .as_ref()
                .is_none_or(|before| before.number < generation.number),
            "a generation replaces a newer one"
        );
        let number = encode("the generation", &generation.number)?;
        current
            .meta
            .insert(CURRENT_KEY, seal(CURRENT_KEY, &number))?;
        current.generation = Some(generation);
        Ok(())
    }

    /// Deletes all other generations in the background. One of them may be frozen.
    fn sweep_once(&self, current: &mut Current) {
        if current.frozen || !std::mem::take(&mut current.sweep) {
            return;
        }
        let kept = current.generation.as_ref().map(|current| current.number);
        let mut names = current.engine.table_names();
        names.retain(|name| number_of(name).is_some_and(|number| Some(number) != kept));
        if let Err(error) = self.sweeper.sweep(&current.engine, names) {
            // They only take space.
            tracing::warn!(%error, "could not delete obsolete registry rows; the next start retries");
        }
    }
}

/// Encoding errors found while loading the registry mean that the store is damaged.
fn in_registry(data_path: &Path, error: Error) -> Error {
    match error {
        Error::Encoding { .. } => Error::corrupt(data_path, error.to_string()),
        other => other,
    }
}

fn read_sealed(data_path: &Path, table: &Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(sealed) = table.get(key)? else {
        return Ok(None);
    };
    match unseal(key, &sealed) {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        Err(damage) => {
            let name = key.escape_ascii();
            let what = format!("the registry's `{name}` {damage}");
            Err(Error::corrupt(data_path, what))
        }
    }
}

#[cfg(test)]
mod tests;
