//! Writes a generation of the registry: a table with all rows and the matching head row.

use super::sled_engine::{Change, Engine, Table};
use super::topic_pieces::{self, Assembly};
use crate::disk::record_file::seal;
use crate::encoding::encode;
use crate::error::Result;
use crate::registry::db::RegistrationDb;

/// The key of the head row: how far the log was applied, and the state hash. No other row's key
/// begins with this letter.
pub(super) const HEAD_KEY: &[u8] = b"h";

/// A generation's table is named by this and its number.
const TABLE_PREFIX: &str = "registrations-";

/// A batch holds up all other writers, so a whole registry is written in small ones.
const BATCH_VALUES: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// A table that holds a registry.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) rows: Table,
}

/// What a table has besides its head.
pub(super) enum Record {
    /// Key and value of a row that belongs to no topic.
    Row(Vec<u8>, Vec<u8>),
    /// The name of a topic, and the topic packed.
    Topic(String, Vec<u8>),
}

impl Generation {
    /// The generation of this number, created if need be.
    pub(super) fn open(engine: &Engine, number: u64) -> Result<Generation> {
        let rows = engine.table(&format!("{TABLE_PREFIX}{number}"))?;
        Ok(Generation { number, rows })
    }

    /// A new generation with a higher number than any that exists, including those that an
    /// interrupted installation left.
    pub(super) fn create(engine: &Engine) -> Result<Generation> {
        let names = engine.table_names();
        let last = names.iter().filter_map(|name| number_of(name)).max();
        Generation::open(engine, last.map_or(1, |last| last + 1))
    }

    /// Reads all records, in the order of their keys.
    pub(super) fn for_each(&self, take: impl FnMut(Record) -> Result<()>) -> Result<()> {
        for_each_in(&self.rows, take)
    }

    /// Writes a whole registry, and its head last. Not synced.
    pub(super) fn fill(&self, db: &RegistrationDb, mark: &[u8]) -> Result<()> {
        let mut batch: Vec<Change> = Vec::new();
        let mut bytes = 0;
        let mut add = |changes: &mut Vec<Change>| {
            let lengths = changes
                .iter()
                .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
            bytes += lengths.sum::<usize>();
            batch.append(changes);
            if batch.len() < BATCH_VALUES && bytes < BATCH_BYTES {
                return Ok(());
            }
            bytes = 0;
            self.rows.batch(batch.drain(..))
        };
        for row in db.rows_beside_topics() {
            add(&mut vec![(row.key(), Some(row.value()?))])?;
        }
        for topic in db.topics() {
            let mut pieces = Vec::new();
            topic_pieces::replace(topic, None, db.pack(topic)?.as_deref(), &mut pieces)?;
            add(&mut pieces)?;
        }
        batch.push(head(mark, db.state_hash())?);
        self.rows.batch(batch)
    }
}

/// Reads all records of a table, in the order of their keys.
pub(super) fn for_each_in(rows: &Table, mut take: impl FnMut(Record) -> Result<()>) -> Result<()> {
    let mut assembly = Assembly::default();
    for pair in rows.range(b"", None) {
        let (key, value) = pair?;
        if key == HEAD_KEY {
            continue;
        }
        if !topic_pieces::is_piece(&key) {
            take(Record::Row(key, value))?;
        } else if let Some((name, packed)) = assembly.push(&key, &value)? {
            take(Record::Topic(name, packed))?;
        }
    }
    assembly.finish()
}

/// The generation that a table of this name holds.
pub(super) fn number_of(table: &str) -> Option<u64> {
    table.strip_prefix(TABLE_PREFIX)?.parse().ok()
}

/// The head row of a registry.
pub(super) fn head(mark: &[u8], state_hash: u128) -> Result<Change> {
    let head = encode("the registry's head", &(mark, state_hash))?;
    Ok((HEAD_KEY.to_vec(), Some(seal(HEAD_KEY, &head))))
}
