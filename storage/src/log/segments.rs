//! Writes, syncs and reads the segments of an open log: the last one grows, the others are read
//! until they are removed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{Position, Record};
use super::segment_files::{self, SEGMENT_BYTES};
use super::sync_times::SyncTimes;
use crate::disk::write_gate::WriteGate;
use crate::error::{Error, Result};

/// All segments. After a failed write or sync, nothing is written: see [`WriteGate`].
pub(super) struct Segments {
    gate: WriteGate,
    folder: PathBuf,
    files: Mutex<Files>,
    /// The last segment, which is to be synced. Earlier ones were synced when they got a successor.
    ///
    /// Locked during a sync: the kernel reports a failure once, so no other sync may report success
    /// before the failure has closed the gate.
    syncing: Mutex<Arc<File>>,
    times: SyncTimes,
}

/// The open files. There is always a last one.
struct Files {
    /// All but the last segment, by number.
    older: BTreeMap<u64, Arc<File>>,
    /// The last segment's number.
    last: u64,
    /// The last segment.
    file: Arc<File>,
}

impl Files {
    fn get(&self, number: u64) -> Option<&Arc<File>> {
        match number == self.last {
            true => Some(&self.file),
            false => self.older.get(&number),
        }
    }

    fn begin(&mut self, number: u64, file: Arc<File>) {
        debug_assert!(
            number == self.last + 1,
            "segment {number} follows {}",
            self.last
        );
        let before = std::mem::replace(&mut self.file, file);
        self.older.insert(self.last, before);
        self.last = number;
    }
}

/// The end of the log. Its holder may write.
pub(super) struct Tail {
    /// The last segment's number.
    pub(super) number: u64,
    /// The offset of the next record.
    pub(super) end: u64,
    /// The length of the file. The bytes behind `end` are zeros.
    pub(super) length: u64,
    /// The last segment.
    pub(super) file: Arc<File>,
}

impl Segments {
    pub(super) fn new(
        gate: &WriteGate,
        folder: PathBuf,
        older: BTreeMap<u64, Arc<File>>,
        tail: &Tail,
    ) -> Segments {
        debug_assert!(
            older.keys().all(|number| *number < tail.number),
            "a segment comes after the last"
        );
        Segments {
            gate: gate.clone(),
            folder,
            files: Mutex::new(Files {
                older,
                last: tail.number,
                file: tail.file.clone(),
            }),
            syncing: Mutex::new(tail.file.clone()),
            times: SyncTimes::new(),
        }
    }

    /// Writes records at the end, all into one segment. Returns the position of each. If a new
    /// segment is started for them, it starts with `kept`: facts that must not be lost with earlier
    /// segments.
    pub(super) fn write(
        &self,
        tail: &mut Tail,
        records: &[Record<'_>],
        kept: &[Record<'_>],
    ) -> Result<Vec<Position>> {
        self.gate.check()?;
        if let Some(record) = records.iter().find(|record| record.is_too_long()) {
            let reason = format!("a record of {} bytes is too long", record.length());
            let error = std::io::Error::new(std::io::ErrorKind::InvalidInput, reason);
            return Err(Error::io("append to", &self.folder)(error));
        }
        let outcome = self.write_somewhere(tail, records, kept);
        self.gate.close_if_failed(outcome)
    }

    fn write_somewhere(
        &self,
        tail: &mut Tail,
        records: &[Record<'_>],
        kept: &[Record<'_>],
    ) -> Result<Vec<Position>> {
        let bytes: usize = records.iter().map(Record::length).sum();
        if tail.end + bytes as u64 > SEGMENT_BYTES {
            self.begin_segment(tail, kept)?;
        }
        debug_assert!(tail.end <= tail.length, "the log ends beyond its file");
        // Zeros may be added, up to one step.
        let mut buffer = Vec::with_capacity(bytes);
        let mut positions = Vec::with_capacity(records.len());
        for record in records {
            let position = Position {
                segment: tail.number,
                offset: tail.end + buffer.len() as u64,
            };
            record.write(position, &mut buffer);
            positions.push(position);
        }
        segment_files::write_padded(&tail.file, &mut buffer, tail.end, &mut tail.length)
            .map_err(Error::io("write", &self.path(tail.number)))?;
        tail.end += bytes as u64;
        Ok(positions)
    }

    fn begin_segment(&self, tail: &mut Tail, kept: &[Record<'_>]) -> Result<()> {
        let mut syncing = self.syncing();
        // Checked under the lock: a sync before this may have failed.
        self.gate.check()?;
        // A segment with a successor is complete: only the last one's end may be torn.
        syncing
            .sync_data()
            .map_err(Error::io("sync", &self.path(tail.number)))?;
        let number = tail.number + 1;
        let (file, end) = segment_files::create(&self.folder, number, kept)?;
        let length = file
            .metadata()
            .map_err(Error::io("read", &self.path(number)))?
            .len();
        let file = Arc::new(file);
        self.files().begin(number, file.clone());
        *syncing = file.clone();
        *tail = Tail {
            number,
            end,
            length,
            file,
        };
        Ok(())
    }

    /// Makes everything that was written before this call survive a power failure.
    pub(super) fn sync(&self) -> Result<()> {
        let file = self.syncing();
        // Checked under the lock: the sync before this one may have failed.
        self.gate.check()?;
        let outcome = self.times.measure(|| file.sync_data());
        let outcome = outcome.map_err(Error::io("sync", &self.folder));
        self.gate.close_if_failed(outcome)
    }

    /// How long syncs take.
    pub(super) fn times(&self) -> &SyncTimes {
        &self.times
    }

    /// Reads this many bytes.
    pub(super) fn read(&self, position: Position, bytes: usize) -> Result<Vec<u8>> {
        let path = self.path(position.segment);
        let file = self.files().get(position.segment).cloned();
        let mut stored = vec![0; bytes];
        file.ok_or(std::io::ErrorKind::NotFound.into())
            .and_then(|file| file.read_exact_at(&mut stored, position.offset))
            .map_err(Error::io("read", &path))?;
        Ok(stored)
    }

    /// The numbers of the oldest segment and of the last one.
    pub(super) fn range(&self) -> (u64, u64) {
        let files = self.files();
        let oldest = files.older.first_key_value();
        (oldest.map_or(files.last, |(number, _)| *number), files.last)
    }

    /// Removes the oldest segment. Concurrent readers have it open.
    pub(super) fn remove_oldest(&self) -> Result<()> {
        self.gate.check()?;
        let Some((oldest, _)) = self.files().older.pop_first() else {
            return Err(Error::invariant(
                "the log's last segment was about to be removed",
            ));
        };
        let outcome = segment_files::remove(&self.folder, oldest);
        self.gate.close_if_failed(outcome)
    }

    /// The size of all files.
    pub(super) fn disk_bytes(&self) -> Result<u64> {
        let (mut files, last) = {
            let files = self.files();
            let older: Vec<_> = files.older.values().cloned().collect();
            (older, files.file.clone())
        };
        files.push(last);
        let mut bytes = 0;
        for file in files {
            bytes += file
                .metadata()
                .map_err(Error::io("measure", &self.folder))?
                .len();
        }
        Ok(bytes)
    }

    fn path(&self, number: u64) -> PathBuf {
        segment_files::path(&self.folder, number)
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn syncing(&self) -> MutexGuard<'_, Arc<File>> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Segments {
    /// Makes every later sync fail: /dev/null cannot be synced.
    pub(super) fn break_sync(&self) {
        *self.syncing() = Arc::new(File::open("/dev/null").unwrap());
    }
}
