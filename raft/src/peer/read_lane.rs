//! The connection on which members ask each other on behalf of reads.
//!
//! Every read asks, so the price counts: a small [frame](crate::peer::frames) each way.

use std::io;

use raftlookupd_storage::registration::{MemberId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::peer::frames::{Frames, Magic, Opening, to_frame};
use crate::peer::message::Addressed;
use crate::types::LeaderId;

/// What such a connection begins with.
pub(crate) const MAGIC: Magic = *b"\0RL1";

/// A peer that owes so many answers does not read any more.
const MOST_UNREAD: usize = 1000;

/// No frame is nearly as long.
pub(crate) const LONGEST_FRAME: usize = 1024;

/// What is asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Question {
    /// I follow you; what must a read that begins now see applied?
    ReadIndex {
        /// As whom I follow you.
        leader: LeaderId,
    },
    /// Have you voted for somebody newer than me?
    Following {
        /// As whom I lead.
        leader: LeaderId,
    },
}

/// The answer to each question, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Not any more, or not yet.
    No,
    /// To [`Question::Following`]: no newer one.
    Following,
    /// To [`Question::ReadIndex`].
    ReadPoint {
        /// The index that must be applied.
        index: u64,
        /// The cluster's time.
        time: UnixMillis,
    },
}

/// The end that asks; dials when it must.
pub(crate) struct Lane {
    opening: Addressed<Opening>,
    address: String,
    frames: Option<Frames>,
    /// Answers that nobody waited for.
    unread: usize,
}

impl Lane {
    /// A way to a member of our cluster; not dialled yet.
    pub(crate) fn new(cluster: u128, from: MemberId, to: MemberId, address: String) -> Self {
        Lane {
            opening: Addressed {
                cluster,
                from,
                to,
                message: Opening,
            },
            address,
            frames: None,
            unread: 0,
        }
    }

    pub(crate) fn leads_to(&self, address: &str) -> bool {
        self.address == address
    }

    /// Asks, if need be on a new connection. May be dropped before it is ready.
    ///
    /// # Errors
    /// Nothing is known then; the next question is asked on a new connection.
    pub(crate) async fn ask(&mut self, question: Question) -> io::Result<Answer> {
        // A connection that the peer has closed in the meantime shows it at once.
        if let Ok(answer) = self.ask_on_open(question).await {
            return Ok(answer);
        }
        self.hang_up();
        let frames = Frames::dial(&self.address, MAGIC, &self.opening, LONGEST_FRAME).await?;
        self.frames = Some(frames);
        let answer = self.ask_on_open(question).await;
        if answer.is_err() {
            self.hang_up();
        }
        answer
    }

    /// Asks the next question on a new connection.
    pub(crate) fn hang_up(&mut self) {
        self.frames = None;
        self.unread = 0;
    }

    async fn ask_on_open(&mut self, question: Question) -> io::Result<Answer> {
        let frames = self.frames.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        if self.unread == MOST_UNREAD {
            return Err(io::ErrorKind::TimedOut.into());
        }
        frames.send_at_once(&to_frame(&question)?).await?;
        self.unread += 1;
        loop {
            let answer = frames.receive().await?;
            self.unread -= 1;
            if self.unread == 0 {
                return Ok(answer);
            }
        }
    }
}
