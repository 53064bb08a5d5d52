//! Remembers recently deleted channels, so that nsqadmin can delete them at every member.
//!
//! nsqadmin sends a channel's deletion to every nsqlookupd that it knows. Here the first request
//! deletes the channel at all members. The requests to the others must succeed as well, although a
//! second request to one nsqlookupd fails.

use std::collections::{BTreeMap, BTreeSet};

use super::Origin;
use super::row_log::RowLog;
use crate::error::Result;
use crate::registry::rows::{DeletedRow, Row};
use crate::registry::values::UnixMillis;

/// How long a deletion is remembered, in milliseconds. nsqadmin allows each of its requests some
/// seconds.
const REMEMBERED: UnixMillis = 15_000;

/// The most channels remembered; the oldest are forgotten first.
const MOST: usize = 4096;

/// The most expired entries that are forgotten when one is added.
const FORGOTTEN_AT_ONCE: usize = 16;

type Channel = (String, String);

#[derive(Debug, Default)]
pub(super) struct DeletedChannels {
    channels: BTreeMap<Channel, DeletedRow>,
    by_age: BTreeSet<(UnixMillis, Channel)>,
}

impl DeletedChannels {
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        let rows = self.channels.iter();
        rows.map(|((topic, channel), row)| {
            Row::Deleted(topic.clone(), channel.clone(), row.clone())
        })
    }

    pub(super) fn load(&mut self, topic: String, channel: String, row: DeletedRow) {
        let key = (topic, channel);
        self.by_age.insert((row.at, key.clone()));
        self.channels.insert(key, row);
    }

    /// Notes that the batch's member has deleted this channel.
    pub(super) fn insert(
        &mut self,
        origin: Origin,
        topic: &str,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<()> {
        self.forget_old(origin.at, log)?;
        let key = (topic.to_string(), channel.to_string());
        self.remove(&key, log)?;
        let row = DeletedRow {
            at: origin.at,
            members: vec![origin.member],
        };
        log.insert(&Row::Deleted(key.0.clone(), key.1.clone(), row.clone()))?;
        self.load(key.0, key.1, row);
        debug_assert!(
            self.by_age.len() == self.channels.len(),
            "deleted channels and their index by age differ"
        );
        Ok(())
    }

    /// Whether another member has just deleted this channel, and the batch's member requests it for
    /// the first time.
    pub(super) fn asked_again(
        &mut self,
        origin: Origin,
        topic: &str,
        channel: &str,
        log: &mut RowLog,
    ) -> Result<bool> {
        let key = (topic.to_string(), channel.to_string());
        let Some(row) = self.channels.get_mut(&key) else {
            return Ok(false);
        };
        debug_assert!(
            row.members.is_sorted(),
            "members that deleted a channel are out of order"
        );
        let Err(position) = row.members.binary_search(&origin.member) else {
            return Ok(false);
        };
        if origin.at.abs_diff(row.at) > REMEMBERED {
            return Ok(false);
        }
        let of = |row: &DeletedRow| Row::Deleted(key.0.clone(), key.1.clone(), row.clone());
        let old = of(row);
        row.members.insert(position, origin.member);
        log.replace(&old, &of(row))?;
        Ok(true)
    }

    fn forget_old(&mut self, now: UnixMillis, log: &mut RowLog) -> Result<()> {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((at, key)) = self.by_age.first() else {
                break;
            };
            if now.abs_diff(*at) <= REMEMBERED && self.channels.len() < MOST {
                break;
            }
            let key = key.clone();
            self.remove(&key, log)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &Channel, log: &mut RowLog) -> Result<()> {
        if let Some(row) = self.channels.remove(key) {
            let indexed = self.by_age.remove(&(row.at, key.clone()));
            debug_assert!(indexed, "a deleted channel is not indexed by age");
            log.remove(&Row::Deleted(key.0.clone(), key.1.clone(), row))?;
        }
        Ok(())
    }
}
