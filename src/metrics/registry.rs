//! Reads gauges off the registry: what is registered, the log, the members.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metered;
use raftlookupd_raft::storage::registration_db::Lifetimes;
use raftlookupd_raft::{MemberStatus, Registry, Status};

use super::labels::{Gauges, Peer, Seconds, saturated, set};
use super::syncs::SyncHistogram;

#[derive(Debug, Default)]
pub(super) struct RegistryMetrics {
    names: Gauges,
    claims: Gauge,
    is_leader: Gauge,
    has_leader: Gauge,
    term: Gauge,
    log_index: Gauges,
    log_bytes: Gauge,
    rebuilt: Gauge,
    read_only: Gauge,
    syncs: SyncHistogram,
    disk_free_bytes: Gauge,
    events_pending: Gauge,
    events_committed: Gauge,
    members: Gauges,
    members_absent: Gauges,
    staleness: Seconds,
    peer_silence: Family<Peer, Seconds>,
}

impl RegistryMetrics {
    pub(super) fn register(&self, metered: &mut Metered) {
        metered.register(
            "names",
            "Topics, channels, producers and attachments in the registry",
            self.names.clone(),
        );
        metered.register(
            "claims",
            "Claims of nsqds on topics and channels",
            self.claims.clone(),
        );
        metered.register(
            "raft_is_leader",
            "1 if this member leads and has a quorum",
            self.is_leader.clone(),
        );
        metered.register(
            "raft_has_leader",
            "1 if this member knows a leader that has a quorum",
            self.has_leader.clone(),
        );
        metered.register(
            "raft_term",
            "Raft's term as seen by this member",
            self.term.clone(),
        );
        metered.register(
            "raft_log_index",
            "Log positions: last, applied, snapshot, purged",
            self.log_index.clone(),
        );
        metered.register(
            "raft_log_bytes",
            "Size of the log that is not purged, in bytes",
            self.log_bytes.clone(),
        );
        metered.register(
            "raft_log_sync_seconds",
            "Duration of the log's syncs, which every acknowledgement waits for, in seconds",
            self.syncs.clone(),
        );
        metered.register(
            "read_only",
            "Whether the disk is so full that this member refuses writes, except for deletes",
            self.read_only.clone(),
        );
        metered.register(
            "disk_free_bytes",
            "Free space of the disk that holds the data path, in bytes",
            self.disk_free_bytes.clone(),
        );
        metered.register(
            "registry_rebuilt",
            "Whether the registry's tables were damaged at the start of this member, and were rebuilt",
            self.rebuilt.clone(),
        );
        metered.register(
            "events_pending",
            "Events of this member waiting to be committed",
            self.events_pending.clone(),
        );
        metered.register(
            "events_committed",
            "Events of this member committed since it started",
            self.events_committed.clone(),
        );
        metered.register("members", "Members by role", self.members.clone());
        metered.register(
            "members_absent",
            "Members without keep-alives: away (their nsqds still listed), hidden (no longer listed)",
            self.members_absent.clone(),
        );
        metered.register(
            "staleness_seconds",
            "Time since this member last knew it had missed no changes",
            self.staleness.clone(),
        );
        metered.register(
            "peer_silence_seconds",
            "Time since a peer last answered this member",
            self.peer_silence.clone(),
        );
    }

    pub(super) fn read(&self, registry: &Registry, lifetimes: Lifetimes) {
        let status: Status = registry.status();
        self.read_names(registry);
        self.read_raft(&status);
        self.read_members(registry, lifetimes, status.members);
        self.staleness.set(registry.staleness().as_secs_f64());
    }

    fn read_names(&self, registry: &Registry) {
        let totals = registry.read(|db| db.totals());
        set(&self.names, "topic", totals.topics);
        set(&self.names, "channel", totals.channels);
        set(&self.names, "producer", totals.producers);
        set(&self.names, "attachment", totals.attachments);
        self.claims.set(saturated(totals.claims));
    }

    fn read_raft(&self, status: &Status) {
        let is_leader = status.leader == Some(status.id);
        self.is_leader.set(i64::from(is_leader));
        self.has_leader.set(i64::from(status.leader.is_some()));
        self.term.set(saturated(status.term));
        set(&self.log_index, "last", status.last_log_index);
        set(&self.log_index, "applied", status.applied_index);
        set(&self.log_index, "snapshot", status.snapshot_index);
        set(&self.log_index, "purged", status.purged_index);
        self.log_bytes.set(saturated(status.log_bytes));
        self.rebuilt.set(i64::from(status.registry_rebuilt));
        self.read_only.set(i64::from(status.read_only));
        self.syncs.read(status.syncs.clone());
        self.disk_free_bytes.set(saturated(status.disk_free_bytes));
        self.events_pending.set(saturated(status.pending_events));
        self.events_committed
            .set(saturated(status.committed_events));
    }

    fn read_members(&self, registry: &Registry, lifetimes: Lifetimes, members: Vec<MemberStatus>) {
        let voters = members.iter().filter(|member| member.voter).count();
        set(&self.members, "voter", voters);
        set(&self.members, "learner", members.len() - voters);
        let is_away = |id| registry.read(|db| db.member(id).is_some_and(|row| row.away.is_some()));
        let is_hidden = |id| registry.read(|db| db.is_hidden(id, lifetimes));
        let away = members.iter().filter(|member| is_away(member.id)).count();
        let hidden = members.iter().filter(|member| is_hidden(member.id)).count();
        set(&self.members_absent, "away", away);
        set(&self.members_absent, "hidden", hidden);
        self.peer_silence.clear();
        for member in members {
            if let Some(silence) = member.last_contact {
                let peer = Peer { peer: member.name };
                let gauge = self.peer_silence.get_or_create(&peer);
                gauge.set(silence.as_secs_f64());
            }
        }
    }
}
