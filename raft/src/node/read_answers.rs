//! The end of a [`read_lane`](crate::peer::read_lane) that is asked.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use raftlookupd_storage::registration::MemberId;
use tokio::net::TcpStream;

use crate::node::peer_server::{PeerServer, Running};
use crate::peer::frames::{Frames, Opening, to_frame};
use crate::peer::message::Addressed;
use crate::peer::read_lane::{Answer, LONGEST_FRAME, Question};
use crate::read::round::ROUND;

/// A lane on which nobody asks for so long is closed; asking again opens a new one.
const IDLE: Duration = Duration::from_secs(60);

/// Answers until the connection, of which the magic was read, ends.
///
/// # Errors
/// Its end, too, is one.
pub(crate) async fn serve(stream: TcpStream, server: &PeerServer) -> io::Result<()> {
    let mut frames = Frames::new(stream, LONGEST_FRAME);
    let opening: Addressed<Opening> = tokio::time::timeout(IDLE, frames.receive()).await??;
    let asker = opening.from;
    let running = match server.addressee(opening) {
        Ok((running, Opening)) => running,
        Err(declined) => return Err(io::Error::other(declined)),
    };
    loop {
        let question = tokio::time::timeout(IDLE, frames.receive()).await??;
        let answer = answer(running, asker, question).await;
        frames.send_at_once(&to_frame(&answer)?).await?;
    }
}

async fn answer(running: &Running, asker: MemberId, question: Question) -> Answer {
    let authority = &running.read_authority;
    let leader = match question {
        Question::Following { leader } => {
            return match authority.follows(leader) {
                true => Answer::Following,
                false => Answer::No,
            };
        }
        Question::ReadIndex { leader } => leader,
    };
    // Taken first: who is asked afterwards confirms it.
    let Some(index) = authority.index(leader) else {
        return Answer::No;
    };
    let enough = authority.is_quorum(&BTreeSet::from([running.id, asker]))
        || running.barrier.wait(ROUND).await.is_ok();
    match enough {
        true => Answer::ReadPoint {
            index,
            time: running.clock.now(),
        },
        false => Answer::No,
    }
}
