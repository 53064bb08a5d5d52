//! Keeps a process from speaking for its member if its data path is a copy: another process's, or an
//! older one of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raftlookupd_storage::store::set_aside;

use crate::cluster::identity::OwnMembership;
use crate::config::{Config, Forming};
use crate::error::{Error, Result};
use crate::failure::{Ending, Failure};
use crate::node::opening::Opened;
use crate::node::runtime::blocking;
use crate::peer::handshake::{Me, Verdict};
use crate::peer::speakers::Speakers;

/// Interval between attempts to find a cluster with a leader.
const RETRY: Duration = Duration::from_millis(200);

/// Interval between log lines while there is none.
const REMIND: Duration = Duration::from_secs(5);

/// Deadline for a question to one peer.
const ANSWER: Duration = Duration::from_millis(500);

/// What peers have promised is stored after this time at most. A peer that is put back to an older
/// copy is not noticed if it has forgotten nothing else, and this member has ended meanwhile.
const STORE: Duration = Duration::from_secs(2);

/// Opens the data path, and finds this member's place. If the data path is older than what the
/// others remember of it, it is set aside, and the member begins anew.
///
/// # Errors
/// Those of [`Opened::open`] and [`Opened::join`]; [`Error::Membership`] if another process speaks for
/// this member, or if it would have to begin anew and does not know where.
pub(crate) async fn join(config: Config) -> Result<(Opened, OwnMembership)> {
    loop {
        let mut opened = Opened::open(config.again()?).await?;
        match opened.verdict().await {
            None => {
                let own = opened.join().await?;
                return Ok((opened, own));
            }
            Some(verdict @ Verdict::Copy { .. }) => {
                return Err(Error::Membership(explain(&verdict)));
            }
            Some(Verdict::Forgotten { by }) => begin_anew(opened, &by).await?,
        }
    }
}

impl Opened {
    /// Asks at this member's own address and at those of the others whether this process may speak for
    /// it. Who does not answer at once is not waited for: every connection begins with the same
    /// question.
    async fn verdict(&self) -> Option<Verdict> {
        self.identity.membership.as_ref()?;
        let base = &self.base;
        let mut addresses = vec![base.settings.address.clone()];
        addresses.extend(base.speakers.addresses());
        let listed = base.hello.initial.iter();
        addresses.extend(listed.map(|(_, address)| address.clone()));
        addresses.sort();
        addresses.dedup();
        let mut greetings = tokio::task::JoinSet::new();
        for address in addresses {
            let speakers = base.speakers.clone();
            greetings.spawn(async move {
                // What the answer means for this process is noted while it is read.
                if let Err(error) = speakers.greet(&address, None).await {
                    tracing::debug!(address, %error, "not asked about this member");
                }
            });
        }
        greetings.join_all().await;
        base.me.verdict().borrow().clone()
    }
}

/// Sets the data path aside, once there is a leader that can admit this member again.
async fn begin_anew(opened: Opened, by: &str) -> Result<()> {
    let Opened { mut base, .. } = opened;
    let data_path = base.settings.data_path.clone();
    let shown = data_path.display().to_string();
    if base.settings.forming == Forming::Alone {
        return Err(Error::Membership(format!(
            "{shown} was put back to an older copy: member {by} remembers votes or log entries of this \
             member that it does not have. Start this member with an empty --data-path and the \
             --initial-cluster of the others: it then rejoins as a new member"
        )));
    }
    let mut reminded: Option<Instant> = None;
    while !has_leader(&base.hello, &base.peers).await {
        if reminded.is_none_or(|at| at.elapsed() > REMIND) {
            reminded = Some(Instant::now());
            tracing::warn!(
                data_path = shown,
                remembered_by = by,
                "the data path was put back to an older copy, so this member has to rejoin as a new one; \
                 waiting for a leader. If the others are lost: raftlookupd recover --data-path {shown}"
            );
        }
        tokio::time::sleep(RETRY).await;
    }
    base.stop.cancel();
    base.tasks.shutdown().await;
    drop(base.server);
    let store = base.store;
    let kept = blocking(move || {
        store.close()?;
        Ok(set_aside(&data_path)?)
    })
    .await?;
    tracing::warn!(
        data_path = shown,
        remembered_by = by,
        kept = %kept.display(),
        "the data path was put back to an older copy: what it held is set aside, and this member rejoins \
         as a new one"
    );
    Ok(())
}

/// Whether a listed member knows a leader.
async fn has_leader(
    me: &crate::peer::message::Hello,
    peers: &crate::peer::client::PeerClient,
) -> bool {
    for (name, address) in &me.initial {
        if *name == me.name {
            continue;
        }
        let answer = peers.ask(address, me.clone(), ANSWER).await.ok();
        if answer.and_then(|answer| answer.formed?.leader).is_some() {
            return true;
        }
    }
    false
}

/// Ends the member when a peer finds that this process must not speak for it.
pub(crate) async fn watch_standing(me: Arc<Me>, failure: Failure) {
    let mut verdict = me.verdict();
    let verdict = verdict.wait_for(Option::is_some).await;
    if let Some(verdict) = verdict.ok().and_then(|verdict| verdict.clone()) {
        failure.send_replace(Some(Ending::Member(explain(&verdict))));
    }
}

/// Stores what peers promise, for as long as the member runs.
pub(crate) async fn keep_speakers(speakers: Arc<Speakers>) {
    loop {
        tokio::time::sleep(STORE).await;
        let speakers = speakers.clone();
        let stored = blocking(move || Ok(speakers.store()?)).await;
        if let Err(error) = stored {
            tracing::warn!(%error, "what peers have promised is not stored");
        }
    }
}

fn explain(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Forgotten { by } => format!(
            "the data path was put back to an older copy: member {by} remembers votes or log entries of \
             this member that it does not have. Start it again: it then rejoins as a new member"
        ),
        Verdict::Copy { by, address } => format!(
            "another process of this member answers at {address}, as {by} says: one of the two runs on a \
             copy of the other's data path. Stop the one that should not run; a new member needs an \
             empty --data-path and a name of its own"
        ),
    }
}
