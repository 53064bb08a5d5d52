//! The end of a [`write_lane`](crate::peer::write_lane) that is asked.

use std::io;
use std::time::Duration;

use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use raftlookupd_storage::registration::MemberId;
use tokio::net::TcpStream;

use crate::node::peer_server::{PeerServer, Running};
use crate::peer::frames::{Frames, Opening, to_frame};
use crate::peer::message::{Addressed, Declined, Reply, SubmitBatch};
use crate::peer::write_lane::{LONGEST_FRAME, Question};
use crate::types::TypeConfig;

/// A connection on which nothing is asked for so long is closed; a question that takes so long to
/// arrive, to be answered, or to have its answer read is given up. Longer than a peer keeps an
/// idle connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers until the connection, of which the magic was read, ends.
///
/// # Errors
/// Its end, too, is one.
pub(crate) async fn serve(stream: TcpStream, server: &PeerServer) -> io::Result<()> {
    let mut frames = Frames::new(stream, LONGEST_FRAME);
    let opening: Addressed<Opening> = patiently(frames.receive()).await?;
    let (admitted, running) = match server.addressee(opening) {
        Ok((running, Opening)) => (Ok(()), Some(running)),
        Err(declined) => (Err(declined), None),
    };
    let admitted: Result<(), Declined> = admitted;
    patiently(frames.send(&to_frame(&admitted)?)).await?;
    let Some(running) = running else {
        return Ok(());
    };
    loop {
        let question = patiently(frames.receive()).await?;
        let answer = tokio::select! {
            biased;
            answer = patiently(answer(running, question)) => answer?,
            // Whoever asked has given up, and dials again: many of them would pile up.
            error = frames.interrupted() => return Err(error),
        };
        patiently(frames.send(&answer)).await?;
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work).await?
}

/// The frame of the answer.
async fn answer(running: &Running, question: Question) -> io::Result<Vec<u8>> {
    match question {
        Question::Append(request) => to_frame(&append(running, request).await),
        Question::Submit(SubmitBatch(batch)) => to_frame(&running.proposer.submit(batch).await),
    }
}

type AppendAnswer = Result<AppendEntriesResponse<MemberId>, RaftError<MemberId>>;

async fn append(
    running: &Running,
    request: AppendEntriesRequest<TypeConfig>,
) -> Reply<AppendAnswer> {
    let last = request.entries.last().map(|entry| entry.log_id);
    let last = last.or(request.prev_log_id);
    let answer = running.raft.append_entries(request).await;
    if !matches!(answer, Ok(AppendEntriesResponse::HigherVote(_)) | Err(_)) {
        running.leader_contact.hear();
    }
    if let Ok(AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)) = answer {
        // The leader counts what we say we have.
        if let Some(last) = last
            && let Err(error) = running.log.reaches(last.index).await
        {
            return Err(Declined::Refused(error.to_string()));
        }
    }
    Ok(answer)
}
