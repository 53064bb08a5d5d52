//! Limits connections to what the number of open files allows.
//!
//! The store must always be able to open a file, or the member stops. A crowd of nsqds that reconnect
//! after a restart must not take its share.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most connections of an interface, whatever the limit; further ones wait in the system's queue.
const MOST: u64 = 16_384;

/// Reserved for the store, the listeners and our own calls: an eighth, within these bounds.
const RESERVE: (u64, u64) = (32, 512);

/// Connections of other members: an eighth of the rest, within these bounds.
const PEERS: (u64, u64) = (8, 256);

/// How many connections each interface may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MostConnections {
    /// nsqds, which stay.
    pub tcp: usize,
    /// Consumers, which come and go.
    pub http: usize,
    /// Other members.
    pub peers: usize,
}

/// Raises the soft limit to the hard one (as Go's runtime does for nsqlookupd), and divides it.
pub fn raise_limit() -> MostConnections {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit of open files");
            limit.current
        }
    };
    divide(files.unwrap_or(u64::MAX))
}

fn divide(files: u64) -> MostConnections {
    let (least, most) = RESERVE;
    let free = files.saturating_sub((files / 8).clamp(least, most));
    let peers = (free / 8).clamp(PEERS.0, PEERS.1);
    let free = free.saturating_sub(peers);
    let share = |part: u64| usize::try_from(part.clamp(1, MOST)).unwrap_or(1);
    MostConnections {
        tcp: share(free / 4 * 3),
        http: share(free / 4),
        peers: share(peers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (files, tcp, http, peers) in [
            (0, 1, 1, 8),
            (48, 6, 2, 8),
            (1024, 588, 196, 112),
            (4096, 2496, 832, 256),
            (1_048_576, 16_384, 16_384, 256),
            (u64::MAX, 16_384, 16_384, 256),
        ] {
            let shares = MostConnections { tcp, http, peers };
            assert_eq!(divide(files), shares, "{files}");
        }
    }
}
