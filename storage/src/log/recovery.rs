//! Opens a log: replays its segments and checks that they fit together.
//!
//! No segment may be missing, the entries must be contiguous, and they must reach the durable mark.
//! Only the end of the last segment may be torn, by a crash in the middle of a write. It is cut
//! off, but only after everything else was found correct.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::durable_mark::Mark;
use super::replay::{Replayed, replay};
use super::segment_files;
use super::segments::{Segments, Tail};
use super::state::State;
use crate::disk::fs::sync_folder;
use crate::disk::write_gate::WriteGate;
use crate::error::{Error, Result};

/// Reads and checks all segments, one at a time. What is readable afterwards is durable.
pub(super) fn open(gate: &WriteGate, mark: Mark) -> Result<(State, Segments, Tail)> {
    let data_path = gate.data_path();
    let folder = segment_files::folder_in(data_path);
    let mut state = State::default();
    let mut files = BTreeMap::new();
    let mut last = None;
    let numbers = segment_files::numbers(&folder)?;
    if let Some(missing) = first_missing(&numbers) {
        let what = format!("segment {missing} of the log is missing");
        return Err(Error::corrupt(data_path, what));
    }
    for number in &numbers {
        let path = segment_files::path(&folder, *number);
        let stored = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let replayed = replay(&mut state, *number, &stored)
            .map_err(|what| in_segment(data_path, *number, &what))?;
        if Some(number) != numbers.last()
            && let Some(damage) = replayed.behind
        {
            let what = format!("the record at byte {} {damage}", replayed.end);
            return Err(in_segment(data_path, *number, &what));
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let file = Arc::new(file);
        if let Some((before, file, _)) = last.replace((*number, file, replayed)) {
            files.insert(before, file);
        }
    }
    check_contiguous(&state)
        .and_then(|()| check_end(state.end(), mark))
        .map_err(|what| Error::corrupt(data_path, what))?;
    let Some((number, file, replayed)) = last else {
        return Err(Error::corrupt(data_path, "the log has no segments"));
    };
    let tail = cut(&folder, number, file, replayed)?;
    let end = state.end();
    state.note_synced(end);
    let segments = Segments::new(gate, folder, files, &tail);
    Ok((state, segments, tail))
}

/// Cuts the last segment off behind its last record, and syncs it: what a killed process wrote is
/// read back from the page cache.
///
/// It is cut even if only zeros follow: behind a lost record there may be others that were not
/// lost, and they must never be read behind what is written in its place.
fn cut(folder: &Path, number: u64, file: Arc<File>, replayed: Replayed) -> Result<Tail> {
    let path = segment_files::path(folder, number);
    let Replayed { end, left_over, .. } = replayed;
    if left_over > 0 {
        tracing::warn!(
            file = %path.display(),
            bytes = left_over,
            "the last write to the log was interrupted; its incomplete record was cut off"
        );
    }
    file.set_len(end)
        .and_then(|()| file.sync_all())
        .map_err(Error::io("cut off the end of", &path))?;
    sync_folder(folder)?;
    Ok(Tail {
        number,
        end,
        length: end,
        file,
    })
}

fn in_segment(data_path: &Path, number: u64, what: &str) -> Error {
    Error::corrupt(data_path, format!("segment {number} of the log: {what}"))
}

/// The first number that is missing between ascending ones.
fn first_missing(numbers: &[u64]) -> Option<u64> {
    let mut pairs = numbers.iter().zip(numbers.iter().skip(1));
    pairs.find_map(|(number, next)| (number + 1 != *next).then_some(number + 1))
}

fn check_contiguous(state: &State) -> std::result::Result<(), String> {
    let mut expected = state.first_possible();
    for index in state.entries.keys() {
        if *index != expected {
            return Err(format!("log entry {expected} is missing"));
        }
        expected = index.saturating_add(1);
    }
    Ok(())
}

fn check_end(end: Option<u64>, mark: Mark) -> std::result::Result<(), String> {
    match (mark.last, end) {
        (Some(durable), Some(end)) if end < durable => Err(format!(
            "entries up to {durable} were durable, but the log ends at {end}"
        )),
        (Some(durable), None) => Err(format!(
            "entries up to {durable} were durable, but the log is empty"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_may_be_longer_than_the_mark_but_not_shorter() {
        let marked = Mark {
            vote: None,
            last: Some(7),
        };
        assert_eq!(check_end(Some(7), marked), Ok(()));
        assert_eq!(check_end(Some(8), marked), Ok(()));
        assert!(check_end(Some(6), marked).is_err());
        assert!(check_end(None, marked).is_err());
        assert_eq!(check_end(None, Mark::default()), Ok(()));
    }
}
