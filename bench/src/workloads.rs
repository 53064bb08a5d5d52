//! What the targets are made to do, one idea a file, and in which order.

mod all_gone;
mod cold_start;
mod failover;
mod footprint;
mod keys;
mod many_channels;
mod queries;
mod reconnect;
mod registrations;
mod storm;
mod visibility;

use std::fmt;

use crate::error::Result;
use crate::nsqds::Nsqds;
use crate::size::Size;
use crate::stage::{Options, Stage};
use crate::targets::Kind;

/// Workloads that share a fresh start of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Sessions that register one thing after the other, in an empty registry.
    Registrations,
    /// A registry of some size: filled, asked, left.
    Registry(Size),
    /// One nsqd with 10,000 channels at three members.
    ManyChannels,
    /// A member restarts, and its nsqds come back at the same time.
    Storm,
    /// The leader is killed.
    Failover,
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scenario::Registrations => formatter.write_str("registrations"),
            Scenario::Registry(size) => write!(formatter, "a {size} registry"),
            Scenario::ManyChannels => formatter.write_str("an nsqd of many channels"),
            Scenario::Storm => formatter.write_str("a reconnect storm"),
            Scenario::Failover => formatter.write_str("a failover"),
        }
    }
}

impl Scenario {
    /// All scenarios, with these sizes.
    pub(crate) fn all(sizes: &[Size]) -> Vec<Scenario> {
        let mut all = vec![Scenario::Registrations];
        all.extend(sizes.iter().copied().map(Scenario::Registry));
        all.extend([Scenario::ManyChannels, Scenario::Storm, Scenario::Failover]);
        all
    }

    /// The size that its figures are told for.
    pub(crate) fn size(self) -> Option<Size> {
        match self {
            Scenario::Registry(size) => Some(size),
            _ => None,
        }
    }

    /// The names of its workloads.
    pub(crate) fn workloads(self) -> Vec<&'static str> {
        match self {
            Scenario::Registrations => registrations::workloads(),
            Scenario::Registry(_) => [
                &queries::workloads()[..],
                footprint::WORKLOADS,
                &[
                    PIPELINED,
                    reconnect::REPEAT,
                    reconnect::REPEAT_ENTRIES,
                    reconnect::RECONNECT,
                    reconnect::RECONNECT_ENTRIES,
                    visibility::VISIBILITY,
                    cold_start::COLD_START,
                    all_gone::ALL_GONE,
                ],
            ]
            .concat(),
            Scenario::ManyChannels => many_channels::WORKLOADS.to_vec(),
            Scenario::Storm => storm::WORKLOADS.to_vec(),
            Scenario::Failover => failover::WORKLOADS.to_vec(),
        }
    }

    /// Whether any of its workloads is to be run, and makes sense with such a target. `killable`
    /// says whether its members were started here.
    pub(crate) fn applies(self, kind: Kind, killable: bool, options: &Options) -> bool {
        let wanted = self.workloads().into_iter().any(|name| options.wants(name));
        wanted
            && match self {
                Scenario::Registrations => true,
                Scenario::Registry(size) => kind.is_lookupd() || size == Size::Small,
                Scenario::ManyChannels => kind.is_lookupd(),
                Scenario::Storm => kind.is_lookupd() && killable,
                Scenario::Failover => kind != Kind::Nsqlookupd && killable,
            }
    }

    /// Runs its workloads on a fresh target.
    ///
    /// # Errors
    /// Whatever goes wrong first: the figures noted until then stay.
    pub(crate) async fn run(self, stage: &mut Stage<'_>) -> Result<()> {
        match self {
            Scenario::Registrations => registrations::run(stage).await,
            Scenario::Registry(size) if stage.target.kind.is_lookupd() => {
                registry(stage, size).await
            }
            Scenario::Registry(_) => queries::run_etcd(stage).await,
            Scenario::ManyChannels => many_channels::run(stage).await,
            Scenario::Storm => storm::run(stage).await,
            Scenario::Failover => failover::run(stage).await,
        }
    }
}

/// New registrations of 10 nsqds, pipelined.
const PIPELINED: &str = "register-pipelined";

async fn registry(stage: &mut Stage<'_>, size: Size) -> Result<()> {
    let before = footprint::Disk::before(stage)?;
    let (mut nsqds, registered) = Nsqds::register(&stage.target, size).await?;
    let (done, took) = (registered.registrations, registered.took);
    stage.note_rate(PIPELINED, done, took, registered.unavailable);
    before.after(stage, done)?;
    footprint::registered(stage)?;
    reconnect::repeat(stage, &mut nsqds, size).await?;
    visibility::run(stage).await?;
    queries::run(stage, size, &mut nsqds).await?;
    footprint::peak(stage)?;
    cold_start::run(stage, size, &mut nsqds).await?;
    all_gone::run(stage, size, nsqds).await
}
