//! Introduces the two ends of a connection to each other, before anything else crosses it.
//!
//! The side that dials sends an [`Introduction`], the other answers with a [`Welcome`]: each is a
//! magic number, the version of the protocol, a length and an encoded value, together at most
//! [`LONGEST`] bytes. So what an unknown dialer can make this member read and hold is bounded, and
//! everything after the handshake needs no address: it is known who sends it and whom it is for.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use raftlookupd_storage::encoding::{decode, encode};
use raftlookupd_storage::registration::MemberId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

use crate::error::{Error, Result};
#[cfg(test)]
use crate::peer::lineage::Promises;
use crate::peer::lineage::{Known, Lineage};
use crate::peer::message::Class;

/// The first bytes in both directions.
const MAGIC: [u8; 4] = *b"RLKP";

/// Version of the handshake, the frames and the messages. A member that speaks another one is
/// refused.
pub(crate) const FORMAT: u8 = 5;

/// The longest introduction or welcome.
pub(crate) const LONGEST: usize = 1024;

/// Magic, format and the length of what follows.
const PRELUDE: usize = MAGIC.len() + 1 + 2;

/// The longest name of a member: an introduction must have room for it.
const LONGEST_NAME: usize = 255;

/// The handshake is over by then, or the connection is closed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// A member's place in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The cluster.
    pub(crate) cluster: u128,
    /// Its Raft node id there.
    pub(crate) id: MemberId,
}

/// One end of a connection. The name comes first, so that the bytes show who dials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Party {
    /// The operator's name for it.
    pub(crate) name: String,
    /// Drawn at random for each data path.
    pub(crate) instance: u128,
    /// Drawn at random for each start of a process.
    pub(crate) start: u64,
    /// Its place, once it has one: as soon as its identity is read, before it has loaded.
    pub(crate) place: Option<Place>,
    /// The version of its program.
    pub(crate) software: String,
}

/// The member that the side that dials means to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipient {
    /// Its Raft node id, in the cluster of the sender.
    pub(crate) id: MemberId,
    /// The instance by which the sender knows it.
    pub(crate) instance: u128,
}

/// What the side that dials says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduction {
    /// The sender.
    pub(crate) from: Party,
    /// Whom it means; `None` if it wants to know who is there.
    pub(crate) to: Option<Recipient>,
    /// What the connection is for.
    pub(crate) class: Class,
    /// What the sender remembers of the member that it expects there.
    pub(crate) known: Option<Known>,
}

/// The answer to an [`Introduction`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// The sender of the welcome.
    pub(crate) from: Party,
    /// Why the connection is of no use; `None` if it is accepted.
    pub(crate) refused: Option<Refusal>,
    /// What the sender of the welcome remembers of the side that has dialled.
    pub(crate) known: Option<Known>,
}

/// Why a connection was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    /// It speaks another version of the protocol.
    #[error("it speaks version {found} of the peer protocol, this member version {FORMAT}")]
    OtherFormat {
        /// The version.
        found: u8,
    },
    /// The receiver belongs to no cluster yet.
    #[error("it does not belong to a cluster yet")]
    NoCluster,
    /// The two belong to different clusters.
    #[error("they belong to different clusters")]
    ForeignCluster,
    /// The address leads to another member than the one meant.
    #[error("the address leads to member {id}")]
    OtherMember {
        /// The member that is there.
        id: MemberId,
    },
    /// The receiver has the right node id, but another data path.
    #[error("the address leads to another data path of that member")]
    OtherInstance,
    /// The sender has the node id of a member, but another data path.
    #[error("the cluster knows member {id} by another data path")]
    UnknownInstance {
        /// The sender's node id.
        id: MemberId,
    },
    /// The data path of the sender does not have what the receiver remembers of it.
    #[error(
        "its data path is an older copy: it has forgotten votes or log entries that this member \
         remembers"
    )]
    SenderForgot,
    /// The data path of the receiver does not have what the sender remembers of it.
    #[error(
        "the data path there is an older copy: it has forgotten votes or log entries that its peers \
         remember"
    )]
    ReceiverForgot,
    /// Another process with the sender's node id and data path answers at the member's address.
    #[error(
        "another process of member {id} answers at {address}: one of the two runs on a copy of the \
         other's data path, and must be stopped"
    )]
    Copy {
        /// The node id of both.
        id: MemberId,
        /// Where the other one answers.
        address: String,
    },
    /// No process answers at the member's address, so it is not known that the sender is the member.
    #[error(
        "member {id} is known to be at {address}, and cannot be reached there: {reason}. If it has \
         moved, that is recorded once the leader has reached it"
    )]
    NotAtItsAddress {
        /// The sender's node id.
        id: MemberId,
        /// The address that the receiver has tried.
        address: String,
        /// Why nothing came of it.
        reason: String,
    },
}

/// Why this process must not speak for its member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its data path is older than what a peer remembers.
    Forgotten {
        /// The name of that peer.
        by: String,
    },
    /// Another process answers at the member's address.
    Copy {
        /// The name of the peer that says so.
        by: String,
        /// The address.
        address: String,
    },
}

impl Refusal {
    /// Whether it goes by itself as a cluster forms, so that it needs no line in the log.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Refusal::NoCluster)
    }
}

/// The side that has dialled a connection, once it is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A member of our cluster.
    Member {
        /// Its Raft node id.
        id: MemberId,
        /// The process that speaks for it.
        start: u64,
        /// Whether this member knows it. It may have joined a moment ago, or be removed.
        known: bool,
    },
    /// Anyone: it wants to know who is here.
    Guest,
}

/// This process as it introduces itself.
#[derive(Debug)]
pub(crate) struct Me {
    name: String,
    instance: u128,
    lineage: Lineage,
    /// Grows when a snapshot replaces the registry.
    incarnation: AtomicU64,
    place: OnceLock<Place>,
    verdict: watch::Sender<Option<Verdict>>,
}

impl Me {
    /// A process that has just started on an empty data path.
    #[cfg(test)]
    pub(crate) fn new(name: &str, instance: u128) -> Result<Self> {
        let mut lineage = Lineage::default();
        lineage.begin(rand::random(), Promises::default());
        Me::remembering(name, instance, lineage)
    }

    /// A process that has just started on this data path, which remembers all starts.
    ///
    /// # Errors
    /// [`Error::Membership`] if the name is too long to be introduced by.
    pub(crate) fn remembering(name: &str, instance: u128, lineage: Lineage) -> Result<Self> {
        if name.len() > LONGEST_NAME {
            return Err(Error::Membership(format!(
                "--name: {} bytes are too many, {LONGEST_NAME} is the most",
                name.len()
            )));
        }
        Ok(Me {
            name: name.to_string(),
            instance,
            lineage,
            incarnation: AtomicU64::new(0),
            place: OnceLock::new(),
            verdict: watch::Sender::new(None),
        })
    }

    /// The member's incarnation is at least this one.
    pub(crate) fn raise_incarnation(&self, incarnation: u64) {
        self.incarnation.fetch_max(incarnation, Ordering::AcqRel);
    }

    /// Whether the data path has what a peer remembers of this member.
    pub(crate) fn remembers(&self, known: &Known) -> bool {
        let other = self.place().is_none_or(|place| place.id != known.id);
        other
            || (self.lineage.remembers(known)
                && known.incarnation <= self.incarnation.load(Ordering::Acquire))
    }

    /// Notes that this process must not speak for its member. The first reason counts, but a living
    /// original counts more than what a copy has forgotten.
    pub(crate) fn condemn(&self, verdict: Verdict) {
        self.verdict.send_if_modified(|known| {
            let counts = match known {
                None => true,
                Some(Verdict::Forgotten { .. }) => matches!(verdict, Verdict::Copy { .. }),
                Some(Verdict::Copy { .. }) => false,
            };
            if counts {
                *known = Some(verdict);
            }
            counts
        });
    }

    /// Why this process must not speak for its member, once that is known.
    pub(crate) fn verdict(&self) -> watch::Receiver<Option<Verdict>> {
        self.verdict.subscribe()
    }

    /// From now on it speaks as this member. Only the first call counts.
    pub(crate) fn take_place(&self, place: Place) {
        let _ = self.place.set(place);
    }

    /// Its place, once it has one.
    pub(crate) fn place(&self) -> Option<Place> {
        self.place.get().copied()
    }

    /// Whether a connection is accepted, and as whose; `known` gives the instance by which the
    /// cluster knows a member.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn admit(
        &self,
        introduction: &Introduction,
        known: impl FnOnce(MemberId) -> Option<u128>,
    ) -> std::result::Result<Sender, Refusal> {
        let (ours, theirs) = (self.place(), introduction.from.place);
        let theirs = theirs.filter(|place| ours.is_some_and(|ours| ours.cluster == place.cluster));
        if theirs.is_some()
            && let Some(known) = &introduction.known
            && !self.remembers(known)
        {
            return Err(Refusal::ReceiverForgot);
        }
        let Some(to) = introduction.to else {
            return Ok(Sender::Guest);
        };
        let ours = ours.ok_or(Refusal::NoCluster)?;
        let id = theirs.ok_or(Refusal::ForeignCluster)?.id;
        if to.id != ours.id {
            return Err(Refusal::OtherMember { id: ours.id });
        }
        if to.instance != self.instance {
            return Err(Refusal::OtherInstance);
        }
        match known(id) {
            Some(instance) if instance != introduction.from.instance => {
                Err(Refusal::UnknownInstance { id })
            }
            known => Ok(Sender::Member {
                id,
                start: introduction.from.start,
                known: known.is_some(),
            }),
        }
    }

    /// How it introduces itself.
    pub(crate) fn party(&self) -> Party {
        Party {
            name: self.name.clone(),
            instance: self.instance,
            start: self.lineage.current().unwrap_or_default(),
            place: self.place(),
            software: env!("CARGO_PKG_VERSION").to_string(),
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was received is no handshake of ours.
    #[error("it does not speak the peer protocol of raftlookupd, or an early version of it")]
    Foreign,
    /// Another version of the protocol.
    #[error("it speaks version {0} of the peer protocol, this member version {FORMAT}")]
    OtherFormat(u8),
    /// It is longer than allowed, or cannot be decoded.
    #[error("its introduction cannot be read: {0}")]
    Garbled(String),
}

/// Sends an introduction or a welcome.
///
/// # Errors
/// Those of writing.
pub(crate) async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> io::Result<()> {
    let body = encode("a handshake", value).map_err(io::Error::other)?;
    let length = u16::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(PRELUDE + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Receives an introduction or a welcome, and reads not a byte more.
///
/// # Errors
/// [`HandshakeError`].
pub(crate) async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::result::Result<T, HandshakeError> {
    let mut prelude = [0; PRELUDE];
    stream.read_exact(&mut prelude).await?;
    let [m0, m1, m2, m3, format, high, low] = prelude;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(HandshakeError::Foreign);
    }
    if format != FORMAT {
        return Err(HandshakeError::OtherFormat(format));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let mut bytes = [0; LONGEST - PRELUDE];
    let Some(body) = bytes.get_mut(..length) else {
        return Err(HandshakeError::Garbled(format!("it has {length} bytes")));
    };
    stream.read_exact(body).await?;
    decode("a handshake", body).map_err(|error| HandshakeError::Garbled(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(from: &Me, to: Option<Recipient>) -> Introduction {
        Introduction {
            from: from.party(),
            to,
            class: Class::Small,
            known: None,
        }
    }

    fn member(name: &str, instance: u128, cluster: u128, id: MemberId) -> Me {
        let me = Me::new(name, instance).unwrap();
        me.take_place(Place { cluster, id });
        me
    }

    #[test]
    fn admission() {
        let b = member("b", 20, 7, 2);
        let me = Some(Recipient {
            id: 2,
            instance: 20,
        });
        let a = member("a", 10, 7, 1);
        let known = |id| (id == 1).then_some(10);
        let admit = |from: &Me, to| b.admit(&introduction(from, to), known);
        let sender = |of: &Me, id, known| {
            let start = of.party().start;
            Ok(Sender::Member { id, start, known })
        };
        assert_eq!(admit(&a, me), sender(&a, 1, true));
        let d = member("d", 40, 7, 4);
        assert_eq!(admit(&d, me), sender(&d, 4, false));
        assert_eq!(admit(&a, None), Ok(Sender::Guest));

        let other_id = Some(Recipient {
            id: 3,
            instance: 20,
        });
        assert_eq!(admit(&a, other_id), Err(Refusal::OtherMember { id: 2 }));
        let other_path = Some(Recipient {
            id: 2,
            instance: 21,
        });
        assert_eq!(admit(&a, other_path), Err(Refusal::OtherInstance));
        let foreign = Err(Refusal::ForeignCluster);
        assert_eq!(admit(&member("a", 10, 8, 1), me), foreign);
        assert_eq!(admit(&Me::new("a", 10).unwrap(), me), foreign);
        let copied = Err(Refusal::UnknownInstance { id: 1 });
        assert_eq!(admit(&member("a", 11, 7, 1), me), copied);
        // It may be known by a new one in a moment, and everybody may ask who is there.
        let fresh = Me::new("b", 20).unwrap();
        let refused = fresh.admit(&introduction(&a, me), known);
        assert_eq!(refused, Err(Refusal::NoCluster));
        let asked = fresh.admit(&introduction(&a, None), known);
        assert_eq!(asked, Ok(Sender::Guest));
    }

    #[test]
    fn a_living_original_counts_more_than_what_its_copy_forgot() {
        let me = member("a", 10, 7, 1);
        let forgotten = |by: &str| Verdict::Forgotten { by: by.into() };
        let copy = Verdict::Copy {
            by: "b".into(),
            address: "a:1".into(),
        };
        for (said, counts) in [
            (forgotten("b"), forgotten("b")),
            (forgotten("c"), forgotten("b")),
            (copy.clone(), copy.clone()),
            (forgotten("c"), copy),
        ] {
            me.condemn(said);
            assert_eq!(*me.verdict().borrow(), Some(counts));
        }
    }

    #[test]
    fn who_has_forgotten_says_so() {
        let (a, b) = (member("a", 10, 7, 1), member("b", 20, 7, 2));
        let known = |id, start, incarnation| Known {
            id,
            start,
            promised: Promises::default(),
            incarnation,
        };
        let start = b.party().start;
        b.raise_incarnation(3);
        for (known, admitted) in [
            (known(2, start, 3), Ok(Sender::Guest)),
            (known(2, start, 4), Err(Refusal::ReceiverForgot)),
            (known(2, start ^ 1, 3), Err(Refusal::ReceiverForgot)),
            // It means another member.
            (known(3, start ^ 1, 3), Ok(Sender::Guest)),
        ] {
            let introduction = Introduction {
                known: Some(known),
                ..introduction(&a, None)
            };
            assert_eq!(b.admit(&introduction, |_| None), admitted, "{known:?}");
        }
        let foreign = Introduction {
            known: Some(known(2, start ^ 1, 3)),
            ..introduction(&member("a", 10, 8, 1), None)
        };
        assert_eq!(b.admit(&foreign, |_| None), Ok(Sender::Guest));
    }

    #[test]
    fn a_name_leaves_room_for_the_rest() {
        assert!(Me::new(&"n".repeat(LONGEST_NAME + 1), 1).is_err());
        let name = "n".repeat(LONGEST_NAME);
        let me = member(&name, u128::MAX, u128::MAX, u64::MAX);
        let to = Recipient {
            id: u64::MAX,
            instance: u128::MAX,
        };
        let known = Known {
            id: u64::MAX,
            start: u64::MAX,
            promised: Promises {
                term: u64::MAX,
                next: u64::MAX,
            },
            incarnation: u64::MAX,
        };
        let longest = Introduction {
            known: Some(known),
            ..introduction(&me, Some(to))
        };
        let longest = encode("a handshake", &longest).unwrap();
        assert!(PRELUDE + longest.len() < LONGEST);
    }

    /// What is received of these bytes, and how many of them are read.
    async fn receive_from(
        bytes: &[u8],
    ) -> (std::result::Result<Introduction, HandshakeError>, usize) {
        let mut stream = bytes;
        let received = receive(&mut stream).await;
        (received, bytes.len() - stream.len())
    }

    #[tokio::test]
    async fn what_is_received_is_bounded() {
        let mut sent = Vec::new();
        let said = introduction(&member("a", 10, 7, 1), None);
        send(&mut sent, &said).await.unwrap();
        let length = sent.len();
        sent.extend([0; 10_000]);
        let (received, read) = receive_from(&sent).await;
        assert_eq!((received.unwrap(), read), (said, length));

        let other = [b"RLKP\xff", &[0; 10_000][..]].concat();
        let (received, read) = receive_from(&other).await;
        assert!(matches!(received, Err(HandshakeError::OtherFormat(255))));
        assert_eq!(read, PRELUDE);
        let long = [b"RLKP\x05\xff\xff", &[0; 100_000][..]].concat();
        let (received, read) = receive_from(&long).await;
        assert!(matches!(received, Err(HandshakeError::Garbled(_))));
        assert_eq!(read, PRELUDE);
        let garbage = [b"RLKP\x05\x00\x09", &[9; 9][..]].concat();
        let (received, _) = receive_from(&garbage).await;
        assert!(matches!(received, Err(HandshakeError::Garbled(_))));
        let (received, _) = receive_from(b"POST /raft/vote HTTP/1.1\r\n").await;
        assert!(matches!(received, Err(HandshakeError::Foreign)));
        let (received, _) = receive_from(b"RLKP\x05\x00\x09 ").await;
        assert!(matches!(received, Err(HandshakeError::Io(_))));
    }
}
